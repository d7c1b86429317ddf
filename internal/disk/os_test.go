//go:build linux

package disk_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"manna/internal/disk"
)

// roleEnv makes this test binary play a second process; see TestMain.
const roleEnv = "MANNA_DISK_ROLE"

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleEnv), ":")
	var err error
	switch role {
	case "":
		os.Exit(m.Run())
	case "hold":
		err = hold(dir)
	case "limited":
		err = limited(dir)
	case "mounts":
		// As root of a user namespace of its own: the tests run as usual.
		os.Exit(m.Run())
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// play starts this binary in a role.
func play(t *testing.T, role, dir string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role+":"+dir)
	return cmd
}

// hold takes the lock, says so, and keeps it until standard input ends.
func hold(path string) error {
	held, err := disk.OS{}.Lock(path)
	if err != nil {
		return err
	}
	fmt.Println("locked")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return held.Close()
}

func TestLockHoldsAgainstAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	for _, end := range []struct {
		name string
		by   func(cmd *exec.Cmd, stdin io.Closer) error
	}{
		{"closed", func(_ *exec.Cmd, stdin io.Closer) error { return stdin.Close() }},
		{"killed", func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Kill() }},
	} {
		t.Run(end.name, func(t *testing.T) {
			cmd := play(t, "hold", path)
			cmd.Stderr = os.Stderr
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "locked\n" {
				t.Fatalf("the other process says %q, %v", line, err)
			}
			_, err = disk.OS{}.Lock(path)
			wantErr(t, err, disk.ErrLocked, path)
			wantErr(t, err, disk.ErrLocked, "process "+strconv.Itoa(cmd.Process.Pid))
			if err := end.by(cmd, stdin); err != nil {
				t.Fatal(err)
			}
			cmd.Wait() // a killed process has an error by design
			held, err := disk.OS{}.Lock(path)
			if err != nil {
				t.Fatalf("the lock outlives its process: %v", err)
			}
			if err := held.Close(); err != nil {
				t.Fatal(err)
			}
			if got, want := readPath(t, disk.OS{}, path), strconv.Itoa(os.Getpid())+"\n"; got != want {
				t.Errorf("the file holds %q, want %q alone", got, want)
			}
		})
	}
}

func TestLockNamesItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	create(t, disk.OS{}, path, strings.Repeat("left by an older format ", 9))
	held, err := disk.OS{}.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if got, want := readPath(t, disk.OS{}, path), strconv.Itoa(os.Getpid())+"\n"; got != want {
		t.Errorf("the file holds %q, want %q alone", got, want)
	}
	if err := os.WriteFile(path, nil, 0); err != nil {
		t.Fatal(err)
	}
	_, err = disk.OS{}.Lock(path)
	wantErr(t, err, disk.ErrLocked, path) // whose it is cannot be known then
}

// mounted runs test on a small file system of its own: as root straight away,
// otherwise as root of a user namespace, in a process of its own. Where neither
// is allowed it gives false, and under CI it fails.
func mounted(t *testing.T, fstype, options string, test func(t *testing.T, dir string)) bool {
	t.Helper()
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		err := unix.Mount(fstype, dir, fstype, 0, options)
		if err == nil {
			t.Cleanup(func() {
				if err := unix.Unmount(dir, 0); err != nil {
					t.Errorf("unmount %s: %v", dir, err)
				}
			})
			test(t, dir)
			return true
		}
		return refused(t, fmt.Errorf("mount %s: %w", fstype, err))
	}
	cmd := play(t, "mounts", "", "-test.run=^"+t.Name()+"$", "-test.v")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		return refused(t, fmt.Errorf("user namespace: %w", err))
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("as root of a user namespace: %v\n%s", err, out.Bytes())
	}
	return !strings.Contains(out.String(), leftOut)
}

const leftOut = "LEFT OUT, no file system can be mounted here"

func refused(t *testing.T, err error) bool {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must run this on a file system of its own: %v", err)
	}
	t.Logf("%s: %v", leftOut, err)
	return false
}

func TestFullDisk(t *testing.T) {
	if mounted(t, "tmpfs", "size=1m", fullDisk) {
		return
	}
	t.Log("in its place: writes to /dev/full")
	f, err := disk.OS{}.Open("/dev/full")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = f.WriteAt([]byte("x"), 0)
	wantErr(t, err, disk.ErrFull, "/dev/full")
	wantErr(t, err, unix.ENOSPC, "/dev/full")
}

func fullDisk(t *testing.T, dir string) {
	var d disk.OS
	path := filepath.Join(dir, "log")
	f := create(t, d, path, "durable")
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}

	t.Run("Allocate reserves nothing", func(t *testing.T) {
		before, err := d.Free(dir)
		if err != nil {
			t.Fatal(err)
		}
		err = f.Allocate(2 << 20)
		wantErr(t, err, disk.ErrFull, path)
		wantErr(t, err, unix.ENOSPC, path)
		if size, _ := f.Size(); size != 7 {
			t.Errorf("size %d after a refused Allocate, want 7", size)
		}
		if after, _ := d.Free(dir); after != before {
			t.Errorf("%d bytes free after a refused Allocate, %d before", after, before)
		}
	})

	t.Run("room that was allocated holds", func(t *testing.T) {
		const size = 256 << 10
		if err := f.Allocate(size); err != nil {
			t.Fatal(err)
		}
		other, path, written := fill(t, d, dir)
		if free, _ := d.Free(dir); free != 0 {
			t.Errorf("%d bytes free on a full disk", free)
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte("r"), size), 0); err != nil {
			t.Errorf("write into the room: %v", err)
		}
		if err := f.Sync(); err != nil {
			t.Error(err)
		}
		if size, _ := other.Size(); size != written {
			t.Errorf("size %d after %d bytes were written", size, written)
		}

		// There is room again: the same handle goes on where it stopped.
		if err := d.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("more"), size); err != nil {
			t.Errorf("write after room was made: %v", err)
		}
	})

	t.Run("a lock is taken", func(t *testing.T) {
		fill(t, d, dir)
		held, err := d.Lock(filepath.Join(dir, "lock"))
		if err != nil {
			t.Fatal(err)
		}
		if err := held.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// fill writes a file until the disk is full.
func fill(t *testing.T, d disk.Disk, dir string) (f disk.File, path string, written int64) {
	t.Helper()
	path = filepath.Join(dir, "filler-"+filepath.Base(t.Name()))
	f = create(t, d, path, "")
	for {
		n, err := f.WriteAt(bytes.Repeat([]byte("f"), 100_000), written)
		written += int64(n)
		if err != nil {
			wantErr(t, err, disk.ErrFull, path)
			wantErr(t, err, unix.ENOSPC, path)
			return f, path, written
		}
	}
}

// ramfs has no fallocate.
func TestAllocateWithoutFallocate(t *testing.T) {
	ran := mounted(t, "ramfs", "", func(t *testing.T, dir string) {
		if f, err := os.Create(filepath.Join(dir, "probe")); err != nil {
			t.Fatal(err)
		} else {
			defer f.Close()
			if err := unix.Fallocate(int(f.Fd()), 0, 0, 10); !errors.Is(err, unix.EOPNOTSUPP) {
				t.Fatalf("fallocate on ramfs: %v; this test needs a file system without it", err)
			}
		}
		allocateByZeros(t, disk.OS{}, dir)
		wantLimited(t, dir)
	})
	if !ran {
		t.Log("in its place: the file system of the temporary directory, with fallocate")
		allocateByZeros(t, disk.OS{}, t.TempDir())
	}
}

func allocateByZeros(t *testing.T, d disk.Disk, dir string) {
	const size = 2<<20 + 5
	f := create(t, d, filepath.Join(dir, "a"), "head")
	if err := f.Allocate(size); err != nil {
		t.Fatal(err)
	}
	if want := "head" + strings.Repeat("\x00", size-4); read(t, f) != want {
		t.Error("the room does not read as the head and zeros")
	}
	info, err := d.Stat(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if blocks := info.Sys().(*syscall.Stat_t).Blocks; blocks*512 < size {
		t.Errorf("%d bytes taken for a room of %d", blocks*512, size)
	}
}

// limited writes against the process's own limit on a file's size.
func limited(dir string) error {
	const limit = 64 << 10
	signal.Ignore(unix.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	f, err := disk.OS{}.Create(filepath.Join(dir, "limited"))
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := f.WriteAt(make([]byte, 2*limit), limit/2)
	if n != limit/2 || !errors.Is(err, unix.EFBIG) || errors.Is(err, disk.ErrFull) {
		return fmt.Errorf("write over the limit: %d, %v, want %d and EFBIG alone", n, err, limit/2)
	}
	if err := f.Truncate(100); err != nil {
		return err
	}
	if err := f.Allocate(2 * limit); !errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("allocate over the limit: %v, want EFBIG", err)
	}
	if size, err := f.Size(); size != 100 || err != nil {
		return fmt.Errorf("size %d, %v after a refused Allocate, want 100", size, err)
	}
	return nil
}

// A write may stop in the middle for another reason than a full disk.
func TestLimitOnTheFileSize(t *testing.T) { wantLimited(t, t.TempDir()) }

func wantLimited(t *testing.T, dir string) {
	t.Helper()
	if out, err := play(t, "limited", dir).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
