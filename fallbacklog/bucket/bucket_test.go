package bucket_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"manna/fallbacklog/bucket"
)

func TestSumsReadAsTheyAreWritten(t *testing.T) {
	want := bucket.SumOf([]byte("x"))
	text, err := want.MarshalText()
	if err != nil || len(text) != 64 {
		t.Fatalf("%q, %v", text, err)
	}
	var got bucket.Sum
	if err := got.UnmarshalText(text); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "x", strings.Repeat("g", 64), string(text) + "0"} {
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if sum, size, err := bucket.ReadSum(strings.NewReader("x")); err != nil || size != 1 || sum != want {
		t.Errorf("%v, %d, %v", sum, size, err)
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	b := bucket.Backoff{First: 100 * time.Millisecond, Most: time.Second}
	for range 2 {
		for _, want := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			want *= time.Millisecond
			if got := b.Next(); got > want || got < want*3/4-1 {
				t.Errorf("a pause of %v, want %v less up to a quarter", got, want)
			}
		}
		b.Reset()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&bucket.Backoff{First: time.Hour, Most: time.Hour}).Pause(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a pause for nobody: %v", err)
	}
}
