package rocketmq

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// The client has one logger and one handler of panics for the whole process, and
// reads both without a lock: they are set once, before the first client is made,
// and hand on to whoever opened a queue last.
var (
	clientLogger atomic.Pointer[slog.Logger]
	takeClient   = sync.OnceFunc(func() {
		rlog.SetLogger(clientLog{})
		primitive.DefaultPanicHandler = func(what any) {
			clientLogger.Load().Error("the RocketMQ client panicked; it goes on without what it was doing", "panic", what, "stack", string(debug.Stack()))
		}
	})
)

// clientLog takes in what the client logs. Its news is for debugging: what went
// wrong comes back to us as an error too, and is told there.
type clientLog struct{}

func (clientLog) log(level slog.Level, msg string, fields map[string]any) {
	l := clientLogger.Load()
	if msg == "" || !l.Enabled(context.Background(), level) {
		return
	}
	args := make([]any, 0, 2*len(fields))
	for k, v := range fields {
		args = append(args, k, fmt.Sprint(v))
	}
	l.Log(context.Background(), level, "rocketmq client: "+msg, args...)
}

func (c clientLog) Debug(msg string, fields map[string]any)   { c.log(slog.LevelDebug, msg, fields) }
func (c clientLog) Info(msg string, fields map[string]any)    { c.log(slog.LevelDebug, msg, fields) }
func (c clientLog) Warning(msg string, fields map[string]any) { c.log(slog.LevelDebug, msg, fields) }
func (c clientLog) Error(msg string, fields map[string]any)   { c.log(slog.LevelWarn, msg, fields) }
func (c clientLog) Fatal(msg string, fields map[string]any)   { c.log(slog.LevelError, msg, fields) }
func (clientLog) Level(string)                                {}
func (clientLog) OutputPath(string) error                     { return nil }
