// Command manna accepts gift claims at any speed, delivers each exactly once at
// the pace partners bear, and proves it afterwards.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	args := os.Args[1:]
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, stop := interruptible(context.Background(), signals, func() {
		os.Exit(fail(os.Stdout, os.Stderr, wantsJSON(args), errAborted))
	})
	code := run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
