package breaker

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSlowSuccessIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		for range 10 {
			c := begin(t, b)
			time.Sleep(time.Second)
			c.Done(Success)
		}
		counts(t, b, 10, 0)
		c := begin(t, b)
		time.Sleep(time.Second + 1)
		c.Done(Success)
		counts(t, b, 11, 1)
	})
}

func TestAbandonedCountsAsNeither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		call(t, b, Failure, 9)
		call(t, b, Abandoned, 100)
		counts(t, b, 9, 9)
		stands(t, b, Automatic, Closed)
		call(t, b, Failure, 1)
		stands(t, b, Automatic, Open)
	})
}

func TestDoneCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		c := begin(t, b)
		c.Done(Success)
		c.Done(Failure)
		counts(t, b, 1, 0)
		func() {
			defer func() { _ = recover() }()
			var result Result
			c := begin(t, b)
			defer func() { c.Done(result) }()
			panic("the call panics")
		}()
		counts(t, b, 2, 1)
	})
}

func TestHalfOpenHasOneProbe(t *testing.T) {
	for result, want := range map[Result]State{Success: Closed, Failure: Open, Abandoned: HalfOpen} {
		synctest.Test(t, func(t *testing.T) {
			b := make1(t, usual())
			before := begin(t, b)
			halfOpen(t, b)
			probe := begin(t, b)
			refused(t, b)
			before.Done(Success) // from before it opened: says nothing now
			refused(t, b)
			probe.Done(result)
			stands(t, b, Automatic, want)
			switch want {
			case Closed:
				counts(t, b, 0, 0)
				call(t, b, Failure, 9)
				stands(t, b, Automatic, Closed)
			case Open:
				counts(t, b, 1, 1)
				refused(t, b)
				time.Sleep(15*time.Second + 1)
				call(t, b, Success, 1)
				stands(t, b, Automatic, Closed)
			case HalfOpen:
				counts(t, b, 10, 10)
				begin(t, b)
				refused(t, b)
			}
		})
	}
}

func TestSlowProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		halfOpen(t, b)
		probe := begin(t, b)
		time.Sleep(1500 * time.Millisecond)
		probe.Done(Success)
		stands(t, b, Automatic, Open)
	})
}

func TestLostDoneDoesNotWedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		halfOpen(t, b)
		lost := begin(t, b)
		time.Sleep(3*time.Second - 1)
		synctest.Wait()
		stands(t, b, Automatic, HalfOpen)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		stands(t, b, Automatic, Open)
		time.Sleep(15*time.Second + 1)
		synctest.Wait()
		stands(t, b, Automatic, HalfOpen)
		probe := begin(t, b)
		lost.Done(Success) // found after all
		stands(t, b, Automatic, HalfOpen)
		refused(t, b)
		probe.Done(Success)
		stands(t, b, Automatic, Closed)
	})
}

// A timer may fire just before it is stopped and come late to the lock.
func TestLateAlarmDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := make1(t, usual())
		halfOpen(t, b)
		begin(t, b).Done(Abandoned)
		late := b.alarm - 1 // the first probe's
		probe := begin(t, b)
		b.tick(late)
		stands(t, b, Automatic, HalfOpen)
		probe.Done(Success)
		stands(t, b, Automatic, Closed)
	})
}
