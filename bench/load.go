package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

const (
	// userDigits is the width of a user's number: every request is as long as
	// every other, and a claim of its own.
	userDigits = 10
	maxAnswer  = 8 << 10
	// answerWithin bounds the wait for one answer.
	answerWithin = 15 * time.Second
)

// load claims over HTTP/1.1 on connections that stay open, each sending its next
// claim when the one before is answered. It shares the machine with whom it
// loads, so it does no more than it must: a request is a buffer in which one
// number changes, and of an answer it reads status and length.
type load struct {
	clients []*client
}

// client is one connection.
type client struct {
	conn    net.Conn
	request []byte
	numbers []int  // where in request the user's number stands
	next    int    // number of the next user
	stride  int    // clients: their numbers do not meet
	answer  []byte // the last one
	times   []time.Duration
	all     int // claims answered, over all rounds
}

// dial opens the connections. They are closed with close.
func dial(ctx context.Context, addr string, connections int) (*load, error) {
	const user = "0000000000"
	body := `{"campaign":"bench","scene":"rain","gift":"pack","user":"u-` + user + `","platform":"ios","target":{"wallet":"w-` + user + `"}}`
	request := fmt.Appendf(nil, "POST /v1/claims HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", addr, len(body), body)
	var numbers []int
	for at := 0; ; at += userDigits {
		i := bytes.Index(request[at:], []byte("-"+user))
		if i < 0 {
			break
		}
		at += i + 1
		numbers = append(numbers, at)
	}
	l := &load{}
	for i := range connections {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			l.close()
			return nil, err
		}
		l.clients = append(l.clients, &client{
			conn: conn, request: bytes.Clone(request), numbers: numbers, next: i, stride: connections, answer: make([]byte, maxAnswer),
		})
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.clients {
		c.conn.Close()
	}
}

// run claims for d. It returns the claims answered in that time, and how long
// each took.
func (l *load) run(ctx context.Context, d time.Duration) (claims int, times []time.Duration, err error) {
	var running sync.WaitGroup
	errs := make([]error, len(l.clients))
	until := time.Now().Add(d)
	for i, c := range l.clients {
		running.Go(func() { errs[i] = c.run(ctx, until) })
	}
	running.Wait()
	for _, c := range l.clients {
		times = append(times, c.times...)
	}
	return len(times), times, errors.Join(errs...)
}

// answered is the number of claims answered since dial.
func (l *load) answered() int {
	n := 0
	for _, c := range l.clients {
		n += c.all
	}
	return n
}

func (c *client) run(ctx context.Context, until time.Time) error {
	c.times = c.times[:0]
	c.conn.SetDeadline(until.Add(answerWithin))
	for began := time.Now(); began.Before(until); {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.claim(); err != nil {
			return err
		}
		now := time.Now()
		// An answer behind the end belongs to no round.
		if now.Before(until) {
			c.times = append(c.times, now.Sub(began))
		}
		began = now
	}
	return nil
}

// claim makes one claim and waits for its answer.
func (c *client) claim() error {
	for _, at := range c.numbers {
		number(c.request[at:at+userDigits], c.next)
	}
	c.next += c.stride
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	if err := c.read(); err != nil {
		return err
	}
	c.all++
	return nil
}

// number writes n in decimal digits over all of b.
func number(b []byte, n int) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

var (
	accepted  = []byte("HTTP/1.1 202 ")
	lengthKey = []byte("\r\nContent-Length: ")
	headEnd   = []byte("\r\n\r\n")
)

// read reads one answer; one that is not 202 is an error.
func (c *client) read() error {
	got := 0
	for {
		n, err := c.conn.Read(c.answer[got:])
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		got += n
		b := c.answer[:got]
		end := bytes.Index(b, headEnd)
		if end < 0 {
			if got == len(c.answer) {
				return fmt.Errorf("the head of an answer is longer than %d bytes", got)
			}
			continue
		}
		if !bytes.HasPrefix(b, accepted) {
			return fmt.Errorf("not accepted: %q", b)
		}
		_, value, ok := bytes.Cut(b[:end+2], lengthKey)
		digits, _, _ := bytes.Cut(value, []byte("\r"))
		length, err := strconv.Atoi(string(digits))
		if !ok || err != nil || length > maxAnswer-end-len(headEnd) {
			return fmt.Errorf("an answer without a length that can be read: %q", b)
		}
		if whole := end + len(headEnd) + length; got >= whole {
			return nil
		}
	}
}

// sample makes one claim and gives the body of its answer.
func (l *load) sample() ([]byte, error) {
	c := l.clients[0]
	clear(c.answer)
	if err := c.claim(); err != nil {
		return nil, err
	}
	_, body, _ := bytes.Cut(c.answer, headEnd)
	return bytes.TrimRight(body, "\x00\n"), nil
}
