package memcachetest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what a Fake does to one command.
type Fault int

const (
	None     Fault = iota
	Lose           // hang up without doing it
	LoseLate       // do it, and hang up without an answer
	Hang           // do it, and say nothing until the other side hangs up
	Full           // say that there is no room
)

// Fake is a server in the test's process.
type Fake struct {
	Addr string

	listener net.Listener
	mu       sync.Mutex // guards what follows
	items    map[string]fakeItem
	cas      uint64
	fault    func(command, key string) Fault
	conns    map[net.Conn]bool
	calls    int
	done     sync.WaitGroup
}

type fakeItem struct {
	value   []byte
	flags   string
	cas     uint64
	expires time.Time // zero: never
}

// StartFake serves until the test ends.
func StartFake(t testing.TB) *Fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{Addr: l.Addr().String(), listener: l, items: make(map[string]fakeItem), conns: make(map[net.Conn]bool)}
	f.done.Go(f.accept)
	t.Cleanup(func() {
		l.Close()
		f.HangUp()
		f.done.Wait()
	})
	return f
}

// Fail has fault decide about every command from now on; nil: none fails.
func (f *Fake) Fail(fault func(command, key string) Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// Wipe forgets everything.
func (f *Fake) Wipe() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.items)
}

// Restart forgets everything and closes every connection.
func (f *Fake) Restart() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.items)
	f.hangUp()
}

// HangUp closes every connection.
func (f *Fake) HangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hangUp()
}

func (f *Fake) hangUp() {
	for c := range f.conns {
		c.Close()
	}
}

// Calls is how many commands came in.
func (f *Fake) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Keys is how many keys there are.
func (f *Fake) Keys() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.items)
}

// Shortest is how long the key with the least time to live still has.
func (f *Fake) Shortest() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	least := time.Duration(1<<63 - 1)
	for _, it := range f.items {
		if !it.expires.IsZero() {
			least = min(least, time.Until(it.expires))
		}
	}
	return least
}

func (f *Fake) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns[conn] = true
		f.mu.Unlock()
		f.done.Go(func() {
			f.serve(conn)
			f.mu.Lock()
			delete(f.conns, conn)
			f.mu.Unlock()
			conn.Close()
		})
	}
}

func (f *Fake) serve(conn net.Conn) {
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			fmt.Fprint(conn, "ERROR\r\n")
			continue
		}
		var body []byte
		if len(words) >= 5 { // a command that stores
			size, err := strconv.Atoi(words[4])
			if err != nil {
				return
			}
			body = make([]byte, size+2)
			if _, err := io.ReadFull(in, body); err != nil {
				return
			}
			body = body[:size]
		}
		answer, fault := f.do(words, body)
		switch fault {
		case Lose, LoseLate:
			return
		case Hang:
			_, _ = io.Copy(io.Discard, in)
			return
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

func (f *Fake) do(words []string, body []byte) (string, Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	key, fault := words[1], None
	if f.fault != nil {
		fault = f.fault(words[0], key)
	}
	switch fault {
	case Lose:
		return "", fault
	case Full:
		return "SERVER_ERROR out of memory storing object\r\n", fault
	}
	have, ok := f.items[key]
	if ok && !have.expires.IsZero() && !time.Now().Before(have.expires) {
		delete(f.items, key)
		ok = false
	}
	switch words[0] {
	case "gets", "get":
		if !ok {
			return "END\r\n", fault
		}
		return fmt.Sprintf("VALUE %s %s %d %d\r\n%s\r\nEND\r\n", key, have.flags, len(have.value), have.cas, have.value), fault
	case "stats":
		return "STAT evictions off\r\nEND\r\n", fault
	case "add":
		if ok {
			return "NOT_STORED\r\n", fault
		}
	case "cas":
		if !ok {
			return "NOT_FOUND\r\n", fault
		}
		if words[5] != strconv.FormatUint(have.cas, 10) {
			return "EXISTS\r\n", fault
		}
	case "set":
	default:
		return "ERROR\r\n", fault
	}
	f.cas++
	it := fakeItem{value: body, flags: words[2], cas: f.cas}
	switch seconds, _ := strconv.ParseInt(words[3], 10, 64); {
	case seconds < 0:
		it.expires = time.Now()
	case seconds > 30*24*3600:
		it.expires = time.Unix(seconds, 0)
	case seconds > 0:
		it.expires = time.Now().Add(time.Duration(seconds) * time.Second)
	}
	f.items[key] = it
	return "STORED\r\n", fault
}
