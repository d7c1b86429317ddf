package rocketmq_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"manna/queue/rocketmq"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == memberCommand {
		member(os.Args[2:])
		return
	}
	goleak.VerifyTestMain(m,
		// A client that was closed young sleeps for up to ten seconds before it looks
		// whether it has been, and its connection to the name server is closed by
		// nobody: it ends after two minutes of silence.
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.1"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.2"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.3"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal.(*rmqClient).Start.func1.4"),
		goleak.IgnoreAnyFunction("github.com/apache/rocketmq-client-go/v2/internal/remote.(*remotingClient).receiveResponse"),
		// It has a cache from the moment that it is linked.
		goleak.IgnoreAnyFunction("github.com/patrickmn/go-cache.(*janitor).Run"),
	)
}

// memberCommand has the test's binary be a process of its own, to be killed.
const memberCommand = "member"

// member opens the lane of a partner and holds what it receives: one line for
// each, the order's id. It ends when its input does.
func member(args []string) {
	addr, group, partner := args[0], args[1], args[2]
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		bufio.NewReader(os.Stdin).ReadByte()
		cancel()
	}()
	q, err := rocketmq.Open(ctx, rocketmq.Options{NameServers: []string{addr}, Group: group, Node: "member", Queues: 4})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	lane, err := q.Lane(ctx, partner)
	for err == nil {
		m, failed := lane.Receive(ctx)
		if err = failed; err == nil {
			fmt.Println(m.Order.ID)
		}
	}
	fmt.Println("error", err)
}
