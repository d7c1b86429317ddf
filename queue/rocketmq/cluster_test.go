package rocketmq

import (
	"errors"
	"net"
	"strings"
	"testing"
)

// nobody is an address at which nothing answers.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestNameServersAreAskedUntilOneKnows: one that was started again knows nothing until
// the brokers have told it, and one that is away says nothing.
func TestNameServersAreAskedUntilOneKnows(t *testing.T) {
	empty := func(frame) frame { return frame{Code: ansTopicUnknown} }
	brokers := &brokersWithTopic{route: map[string]int{"a": 6, "b": 6}, has: map[string]int{"a": 6, "b": 6}}
	known := brokers.cluster(t)
	ask := func(addrs ...string) error {
		t.Helper()
		c := &cluster{wire: known.wire, nameServers: addrs}
		shards, err := c.shards(t.Context(), "t", permRead)
		if err == nil && len(shards) != 12 {
			t.Errorf("name servers %v: %d queues, want 12", addrs, len(shards))
		}
		masters, failed := c.masters(t.Context())
		if (failed == nil) != (err == nil) || err == nil && len(masters) != 2 {
			t.Errorf("name servers %v: masters %v, %v", addrs, masters, failed)
		}
		return err
	}
	knows := known.nameServers[0]
	for _, addrs := range [][]string{{serve(t, empty), knows}, {nobody(t), serve(t, empty), knows}, {knows, serve(t, empty)}} {
		if err := ask(addrs...); err != nil {
			t.Errorf("name servers %v, of which one knows: %v", addrs, err)
		}
	}
	for _, addrs := range [][]string{{serve(t, empty), serve(t, empty)}, {serve(t, empty), nobody(t)}, {nobody(t), serve(t, empty)}} {
		if err := ask(addrs...); !errors.Is(err, errNoTopic) {
			t.Errorf("name servers %v, of which none knows: %v, want errNoTopic", addrs, err)
		}
	}
	away := nobody(t)
	if err := ask(away); errors.Is(err, errNoTopic) || !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), away) {
		t.Errorf("a name server that is away: %v, want ErrAway with its address", err)
	}
}
