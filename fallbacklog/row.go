package fallbacklog

import (
	"encoding/binary"
	"fmt"

	"manna/gift"
)

// Row is an index entry: one for a claim, one for each of its orders, one for
// each event of an order, one for each named record.
type Row struct {
	// ID is an order's id; a claim's in the row with OfClaim; NamedID's result
	// for records that belong to a name.
	ID   [16]byte
	Time int64 // the record's time, Unix milliseconds
	// Value is the amount for Claimed and Granted rows of orders, the due time
	// in Unix milliseconds for Deferred and Unknown, the count for stock.
	Value int64
	At    Position
	// Lane, Campaign and Gift name strings of the index: see Names.
	Lane, Campaign, Gift uint16
	Kind                 Kind
	OfClaim              bool
}

const rowSize = 48

func (r *Row) append(b []byte) []byte {
	b = append(b, r.ID[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Time))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.Value))
	b = binary.LittleEndian.AppendUint64(b, uint64(r.At))
	b = binary.LittleEndian.AppendUint16(b, r.Lane)
	b = binary.LittleEndian.AppendUint16(b, r.Campaign)
	b = binary.LittleEndian.AppendUint16(b, r.Gift)
	flags := byte(0)
	if r.OfClaim {
		flags = 1
	}
	return append(b, byte(r.Kind), flags)
}

func (r *Row) decode(b []byte) {
	copy(r.ID[:], b)
	r.Time = int64(binary.LittleEndian.Uint64(b[16:]))
	r.Value = int64(binary.LittleEndian.Uint64(b[24:]))
	r.At = Position(binary.LittleEndian.Uint64(b[32:]))
	r.Lane = binary.LittleEndian.Uint16(b[40:])
	r.Campaign = binary.LittleEndian.Uint16(b[42:])
	r.Gift = binary.LittleEndian.Uint16(b[44:])
	r.Kind = Kind(b[46])
	r.OfClaim = b[47]&1 != 0
}

// Names resolves the numbers in rows of one index to the strings they stand for.
// Number 0 is the empty string.
type Names struct {
	list   []string
	number map[string]uint16
	recent [8]uint16 // by a name's last byte: most records name what others did
}

// Bounds of Names, which also bound an index file's tail.
const (
	maxNames = 0xFFFF
	maxName  = 255 // bytes
)

func newNames() *Names { return &Names{list: []string{""}, number: map[string]uint16{"": 0}} }

// Name gives the string for a number.
func (n *Names) Name(number uint16) string {
	if int(number) < len(n.list) {
		return n.list[number]
	}
	return fmt.Sprintf("name %d", number)
}

// Number gives the number of a string; ok is false where no row can have it.
func (n *Names) Number(name string) (number uint16, ok bool) {
	number, ok = n.number[name]
	return number, ok
}

func (n *Names) add(name string) uint16 {
	if name == "" {
		return 0
	}
	recent := &n.recent[name[len(name)-1]%8]
	if n.list[*recent] == name {
		return *recent
	}
	if number, ok := n.number[name]; ok {
		*recent = number
		return number
	}
	// Names come from configurations, which hold a few hundred short ones; past
	// the bounds a row says "" and its record still says the name.
	if len(n.list) > maxNames || len(name) > maxName {
		return 0
	}
	number := uint16(len(n.list))
	n.list = append(n.list, name)
	n.number[name] = number
	return number
}

// rowsOf appends the index rows of a record.
func rowsOf(rows []Row, rec *Record, names *Names) []Row {
	row := Row{Time: rec.Time.UnixMilli(), At: rec.At, Kind: rec.Kind}
	switch {
	case rec.Claim != nil:
		c := rec.Claim
		row.Campaign, row.Gift = names.add(c.Campaign), names.add(c.Gift)
		row.ID, row.OfClaim = c.ID, true
		rows = append(rows, row)
		row.OfClaim = false
		for i := range c.Orders {
			row.ID, row.Lane, row.Value = c.Orders[i].ID, names.add(c.Orders[i].Partner), c.Orders[i].Amount
			rows = append(rows, row)
		}
		return rows
	case rec.Event != nil:
		e := rec.Event
		row.ID, row.Campaign, row.Lane = e.Order, names.add(e.Campaign), names.add(e.Partner)
		switch rec.Kind {
		case Granted:
			row.Value = e.Amount
		case Deferred, Unknown:
			row.Value = e.Due.UnixMilli()
		}
	case rec.Stock != nil:
		s := rec.Stock
		row.ID = NamedID(rec.Kind, s.Campaign+"/"+s.Gift)
		row.Campaign, row.Gift, row.Value = names.add(s.Campaign), names.add(s.Gift), s.Count
		if s.Claim != (gift.ClaimID{}) {
			row.ID, row.OfClaim = s.Claim, true
		}
	case rec.Switch != nil:
		row.ID = NamedID(rec.Kind, rec.Switch.Name)
	case rec.Sent != nil:
		row.ID = NamedID(rec.Kind, rec.Sent.Queue)
	case rec.Loss != nil:
		row.ID, row.Value = NamedID(rec.Kind, ""), int64(rec.Loss.Segment)
	}
	return append(rows, row)
}
