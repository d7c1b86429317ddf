package partnertest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"manna/gift"
)

// Books are what a partner holds for true, at one moment.
type Books struct {
	Partner        string           `json:"partner"`
	Rate           float64          `json:"rate"` // calls a second it bears; 0: any number
	StartedAt      time.Time        `json:"started_at"`
	Arrivals       int              `json:"arrivals"` // grants and queries that reached the door
	PeakPerSecond  int              `json:"peak_per_second"`
	OverrunSeconds int              `json:"overrun_seconds"`
	Truncated      bool             `json:"truncated,omitempty"` // a bound was hit: counts are too low
	Calls          map[string]int64 `json:"calls"`               // by what they came to
	Stalls         []Stall          `json:"stalls,omitempty"`
	Grants         []Grant          `json:"grants"` // by order id

	door arrivals
}

// Grant is an order that the partner applied.
type Grant struct {
	OrderID   gift.OrderID `json:"order_id"`
	Count     int          `json:"count"` // how often; above 1 the gift was doubled
	FirstAt   time.Time    `json:"first_at"`
	Reference string       `json:"reference"` // of the first time
	Amount    int64        `json:"amount,omitempty"`
	SKU       string       `json:"sku,omitempty"`
	User      string       `json:"user,omitempty"`
}

// Grant finds an order.
func (b *Books) Grant(id gift.OrderID) (Grant, bool) {
	i, ok := slices.BinarySearchFunc(b.Grants, id, func(g Grant, id gift.OrderID) int { return bytes.Compare(g.OrderID[:], id[:]) })
	if !ok {
		return Grant{}, false
	}
	return b.Grants[i], true
}

// Count is how often an order was applied.
func (b *Books) Count(id gift.OrderID) int {
	g, _ := b.Grant(id)
	return g.Count
}

// Doubled are the orders that were applied more than once.
func (b *Books) Doubled() []Grant {
	var out []Grant
	for _, g := range b.Grants {
		if g.Count > 1 {
			out = append(out, g)
		}
	}
	return out
}

// Peak judges the arrivals against a rate, which may differ from the partner's
// own: the most in any sliding half-open second, and how many disjoint seconds
// were overrun. The package comment has the rule.
func (b *Books) Peak(rate float64) (peakPerSecond, overrunSeconds int) {
	return b.door.peak(rate, b.Stalls)
}

// finish sorts what was gathered and counts what follows from it.
func (b *Books) finish() {
	slices.SortFunc(b.Grants, func(x, y Grant) int { return bytes.Compare(x.OrderID[:], y.OrderID[:]) })
	b.Arrivals = b.door.n
	b.PeakPerSecond, b.OverrunSeconds = b.Peak(b.Rate)
}

// write streams the books as one JSON document; with arrivals, each as its
// distance in nanoseconds from the one before.
func (b *Books) write(out io.Writer, withArrivals bool) error {
	w := bufio.NewWriterSize(out, 64<<10)
	// The head is the struct itself, with the two long lists left out.
	head := *b
	head.Grants, head.door = nil, arrivals{}
	text, err := json.Marshal(&head)
	if err != nil {
		return err
	}
	text, ok := bytes.CutSuffix(text, []byte(`"grants":null}`))
	if !ok {
		return fmt.Errorf("books: grants are not the last field")
	}
	w.Write(text)
	if withArrivals {
		w.WriteString(`"arrival_deltas":[`)
		before := int64(0)
		for i := range b.door.n {
			if i > 0 {
				w.WriteByte(',')
			}
			at := b.door.at(i)
			w.Write(strconv.AppendInt(w.AvailableBuffer(), at-before, 10))
			before = at
		}
		w.WriteString("],\n")
	}
	w.WriteString(`"grants":[`)
	for i := range b.Grants {
		if i > 0 {
			w.WriteByte(',')
		}
		w.WriteByte('\n')
		text, err := json.Marshal(&b.Grants[i])
		if err != nil {
			return err
		}
		w.Write(text)
	}
	w.WriteString("]}\n")
	return w.Flush() // a bufio.Writer keeps its first error
}

// ReadBooks reads what GET /books sends, field by field as it comes.
func ReadBooks(r io.Reader) (*Books, error) {
	b := new(Books)
	d := json.NewDecoder(bufio.NewReaderSize(r, 64<<10))
	if err := expect(d, '{'); err != nil {
		return nil, err
	}
	rest := make(map[string]json.RawMessage)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("books: %w", err)
		}
		switch name {
		case "grants":
			err = list(d, func(g Grant) { b.Grants = append(b.Grants, g) })
		case "arrival_deltas":
			at := int64(0)
			err = list(d, func(delta int64) { at += delta; b.door.add(at) })
		default:
			var value json.RawMessage
			err = d.Decode(&value)
			rest[fmt.Sprint(name)] = value
		}
		if err != nil {
			return nil, fmt.Errorf("books: %v: %w", name, err)
		}
	}
	if err := expect(d, '}'); err != nil {
		return nil, err
	}
	text, err := json.Marshal(rest)
	if err != nil {
		return nil, fmt.Errorf("books: %w", err)
	}
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("books: %w", err)
	}
	return b, nil
}

func list[T any](d *json.Decoder, each func(T)) error {
	if err := expect(d, '['); err != nil {
		return err
	}
	for d.More() {
		var v T
		if err := d.Decode(&v); err != nil {
			return err
		}
		each(v)
	}
	return expect(d, ']')
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err != nil {
		return fmt.Errorf("books: %w", err)
	}
	if got != want {
		return fmt.Errorf("books: %v where %v should be", got, want)
	}
	return nil
}

// Fetch reads the books of the partner at url (without a path), every arrival
// included.
func Fetch(ctx context.Context, url string) (*Books, error) {
	url = strings.TrimSuffix(url, "/") + "/books?arrivals=yes"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("books: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("books of %s: %w", url, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("books of %s: %s", url, resp.Status)
	}
	b, err := ReadBooks(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return b, nil
}

// String is a summary in a few lines for people.
func (b *Books) String() string {
	var out strings.Builder
	rate := "any"
	if b.Rate > 0 {
		rate = gift.Rate(b.Rate).String()
	}
	fmt.Fprintf(&out, "partner %s: %d orders granted, %d of them more than once\n", b.Partner, len(b.Grants), len(b.Doubled()))
	fmt.Fprintf(&out, "  %d arrivals, at most %d in a second (rate %s), %d seconds overrun\n", b.Arrivals, b.PeakPerSecond, rate, b.OverrunSeconds)
	kinds := make([]string, 0, len(b.Calls))
	for kind := range b.Calls {
		kinds = append(kinds, kind)
	}
	sort.Slice(kinds, func(i, j int) bool {
		return cmp.Or(-cmp.Compare(b.Calls[kinds[i]], b.Calls[kinds[j]]), cmp.Compare(kinds[i], kinds[j])) < 0
	})
	for _, kind := range kinds {
		fmt.Fprintf(&out, "  %10d %s\n", b.Calls[kind], kind)
	}
	if len(b.Stalls) > 0 {
		fmt.Fprintf(&out, "  was not running %d times\n", len(b.Stalls))
	}
	if b.Truncated {
		out.WriteString("  TRUNCATED: a bound was hit, these counts are too low\n")
	}
	return out.String()
}
