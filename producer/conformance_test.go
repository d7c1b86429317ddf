package producer_test

import (
	"testing"

	"manna/producer"
	"manna/producer/guardtest"
)

func TestMemoryGuard(t *testing.T) {
	guardtest.Run(t, guardtest.Engine{Open: func(*testing.T, string) producer.Guard { return producer.NewMemoryGuard() }})
}

// A node of several, whose shared guard knows nobody else.
func TestLayers(t *testing.T) {
	guardtest.Run(t, guardtest.Engine{Open: func(*testing.T, string) producer.Guard { return producer.NewLayers(producer.NewMemoryGuard()) }})
}
