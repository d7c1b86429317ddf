package memcached

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"manna/fallbacklog"
	"manna/gift"
)

// entry is what a claim's key says.
type entry struct {
	node     string
	recorded bool
	at       fallbacklog.Position // where it is recorded
	token    string               // of who reserved it
}

// key is where a claim is kept.
func (g *Guard) key(id gift.ClaimID) string {
	var room [96]byte
	return string(hex.AppendEncode(append(append(room[:0], g.opts.Prefix...), "g:"...), id[:]))
}

// tokenMark ends the incarnation that a token begins with.
const tokenMark = "."

// reserved is the value of a claim that a request of this process holds.
func (g *Guard) reserved(token uint64) []byte {
	var room [96]byte
	return bytes.Clone(strconv.AppendUint(append(room[:0], g.ours...), token, 36))
}

// recorded is the value of a claim that is in a node's log.
func recorded(node string, at fallbacklog.Position) []byte {
	return fmt.Appendf(nil, "c %s %d", node, uint64(at))
}

// taken is the value of a slot.
func taken(id gift.ClaimID) []byte { return fmt.Appendf(nil, "s %x", id[:]) }

// parse reads the value of a claim's key.
func parse(value string) (entry, error) {
	fields := strings.Split(value, " ")
	if len(fields) == 3 && gift.CheckName(fields[1]) == nil {
		e := entry{node: fields[1], recorded: fields[0] == "c", token: fields[2]}
		if fields[0] == "r" {
			return e, nil
		}
		at, err := strconv.ParseUint(fields[2], 10, 64)
		if e.recorded && err == nil {
			e.at, e.token = fallbacklog.Position(at), ""
			return e, nil
		}
	}
	return entry{}, fmt.Errorf("%.80q is no claim of ours: give this cluster a prefix of its own, or servers", value)
}
