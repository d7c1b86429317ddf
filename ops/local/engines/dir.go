package engines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Dir is a run directory. Its methods may be called at any time by several
// goroutines and processes: those that change something wait for each other.
type Dir struct {
	path  string
	ports map[string]int
	since time.Time

	mu       sync.Mutex // guards progress
	progress io.Writer

	fetching sync.Mutex // the broker and the name server share their jars
}

// Open opens a run directory, which it creates, and chooses its ports if that
// was not done before. Methods report their progress to progress, line by line.
func Open(ctx context.Context, path string, progress io.Writer) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, progress: progress, since: time.Now()}
	for _, sub := range []string{"bin", "lib", "data", "log", "pid", "use"} {
		if err := os.MkdirAll(d.file(sub), 0o755); err != nil {
			return nil, err
		}
	}
	if err := d.loadPorts(); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := d.loadPorts(); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	return d, d.choosePorts()
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Addr is the loopback address, host:port, of a server, up or not.
func (d *Dir) Addr(name string) string {
	return fmt.Sprintf("127.0.0.1:%d", d.ports[name])
}

func (d *Dir) file(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

func (d *Dir) logFile(name string) string { return d.file("log", name+".log") }

func (d *Dir) say(name, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(d.progress, "%6.1fs  %-10s  %s\n", time.Since(d.since).Seconds(), name, fmt.Sprintf(format, args...))
}

func (d *Dir) loadPorts() error {
	text, err := os.ReadFile(d.file("ports.json"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &d.ports); err != nil {
		return fmt.Errorf("%s: %w: delete it, and new ports are chosen", d.file("ports.json"), err)
	}
	for _, name := range Names() {
		if d.ports[name] == 0 {
			return fmt.Errorf("%s names no port for %s: delete it, and new ports are chosen", d.file("ports.json"), name)
		}
	}
	return nil
}

// Ports come from below the range that the kernel gives to outgoing connections:
// one of those could otherwise sit on the port of a server that is dead just now.
const (
	lowestPort  = 20000
	highestPort = 32000
	// The broker also listens two below and one above its port, so the servers'
	// ports are a handful apart.
	portDistance = 5
)

func (d *Dir) choosePorts() error {
	for range 100 {
		first := lowestPort + rand.IntN(highestPort-lowestPort-portDistance*(len(Names())+1))
		ports := make(map[string]int)
		for i, name := range Names() {
			ports[name] = first + portDistance*(i+1)
		}
		if !free(first, first+portDistance*(len(Names())+1)) {
			continue
		}
		text, err := json.MarshalIndent(ports, "", "  ")
		if err != nil {
			return err
		}
		d.ports = ports
		return replaceFile(d.file("ports.json"), append(text, '\n'), 0o644)
	}
	return fmt.Errorf("no %d free ports in a row between %d and %d", portDistance*len(Names()), lowestPort, highestPort)
}

// free reports whether nothing listens on any of the ports from, …, to−1.
func free(from, to int) bool {
	for port := from; port < to; port++ {
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// replaceFile writes a file whole, so that a reader sees the old or the new one.
func replaceFile(path string, text []byte, mode fs.FileMode) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, mode); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// lock makes the caller the only one who changes servers of the directory, once
// all who came before are done.
func (d *Dir) lock(ctx context.Context) (unlock func(), err error) {
	return lockFile(ctx, d.file("lock"), func(holder string) {
		d.say("", "waiting for %s, which works on %s", holder, d.path)
	})
}

// lockFile takes a lock that ends with the process at the latest. It calls
// waiting, once, if somebody else has it.
func lockFile(ctx context.Context, path string, waiting func(holder string)) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for told := false; ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if !told {
			told = true
			waiting(lockHolder(path))
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("%s is held by %s: %w", path, lockHolder(path), ctx.Err())
		}
	}
	if err := f.Truncate(0); err == nil {
		fmt.Fprintf(f, "process %d\n", os.Getpid())
	}
	return func() { f.Close() }, nil
}

func lockHolder(path string) string {
	if text, err := os.ReadFile(path); err == nil && len(text) > 0 {
		return strings.TrimSpace(string(text))
	}
	return "another process"
}
