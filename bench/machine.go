package main

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// machine tells how much of the machine others used: a comparison made while they
// use much of it says little.
type machine struct {
	began time.Time
	busy  time.Duration // of all processors, since the machine started
	ours  time.Duration
	known bool
}

func watchMachine() machine {
	busy, known := busyTime()
	return machine{began: time.Now(), busy: busy, ours: ourTime(), known: known}
}

// report adds what others used since watchMachine. The processes that were
// started since have to have ended.
func (m *machine) report(r *result) {
	busy, known := busyTime()
	if !known || !m.known {
		return
	}
	others := busy - m.busy - (ourTime() - m.ours)
	all := time.Since(m.began) * time.Duration(runtime.NumCPU())
	r.add("of the machine used by others", max(0, 100*others.Seconds()/all.Seconds()), "%")
}

// ourTime is the processor time of this process and of those it waited for.
func ourTime() (sum time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// busyTime is the time that processes ran, as Linux counts it; known is false
// elsewhere.
func busyTime() (busy time.Duration, known bool) {
	const tick = 10 * time.Millisecond // of /proc/stat, on every architecture that Go runs on
	text, err := os.ReadFile("/proc/stat")
	fields := bytes.Fields(text)
	if err != nil || len(fields) < 9 || string(fields[0]) != "cpu" {
		return 0, false
	}
	for _, i := range []int{1, 2, 3, 8} { // user, nice, system, steal
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, false
		}
		busy += time.Duration(n) * tick
	}
	return busy, true
}
