package fallbacklog_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"manna/fallbacklog"
	"manna/internal/disk"
)

// lockedDir names the variable that makes a child of the test binary open a log.
const lockedDir = "FALLBACKLOG_LOCKED_DIR"

// openLocked is the child: it says what Open answers.
func openLocked(dir string) int {
	l, err := fallbacklog.Open(fallbacklog.Options{Dir: dir, Node: "a"})
	if err == nil {
		l.Close()
		fmt.Println("opened")
		return 0
	}
	fmt.Println(errors.Is(err, disk.ErrLocked), err)
	return 0
}

func TestASecondProcessIsRefusedByNameOfTheFirst(t *testing.T) {
	dir := t.TempDir()
	child := func() string {
		t.Helper()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), lockedDir+"="+dir, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	l := openLog(t, fallbacklog.Options{Dir: dir})
	got := child()
	if !strings.HasPrefix(got, "true ") || !strings.Contains(got, fmt.Sprintf("process %d", os.Getpid())) || !strings.Contains(got, dir) {
		t.Fatalf("the second process was told %q", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := child(); got != "opened\n" {
		t.Fatalf("after the first has ended the second was told %q", got)
	}
}
