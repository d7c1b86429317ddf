package node

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// bootFile has an id of the machine since it was started, which its containers share.
const bootFile = "/proc/sys/kernel/random/boot_id"

// placeOf names the place of a file: its machine since that was started, or its host's
// name where that is not known, the disk, and the file itself. A copy has another, and
// so may the file itself have after its disk was mounted anew.
func placeOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	file, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", nil
	}
	machine, err := os.Hostname()
	if boot, notThere := os.ReadFile(bootFile); notThere == nil {
		machine, err = strings.TrimSpace(string(boot)), nil
	}
	return fmt.Sprintf("%s %d %d", machine, file.Dev, file.Ino), err
}
