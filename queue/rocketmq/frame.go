package rocketmq

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Requests and answers of the remoting protocol.
const (
	reqPull            = 11
	reqCommitted       = 14
	reqCommit          = 15
	reqCreateTopic     = 17
	reqRuntimeInfo     = 28
	reqSearchOffset    = 29
	reqMaxOffset       = 30
	reqMinOffset       = 31
	reqHeartbeat       = 34
	reqUnregister      = 35
	reqMembers         = 38
	reqMembersChanged  = 40
	reqTimerCheckpoint = 60
	reqTimerCounts     = 61
	reqRoute           = 105
	reqTopicConfig     = 351

	ansDone          = 0
	ansNoPermission  = 16
	ansTopicUnknown  = 17
	ansNothingNew    = 19
	ansAgain         = 20
	ansOffsetMoved   = 21
	ansNotFound      = 22
	ansGroupUnknown  = 26
	flagAnswer       = 1
	codingJSON       = 0
	protocolVersion  = 317
	maxFrame         = 64 << 20
	maxFrameHeader   = 1 << 20
	sizeOfLength     = 4
	headerLengthMask = 0xffffff
)

// frame is one message of the remoting protocol:
//
//	u32 length of the rest | u8 coding of the header | u24 its length | header | body
type frame struct {
	Code     int               `json:"code"`
	Language string            `json:"language,omitempty"`
	Version  int               `json:"version,omitempty"`
	Opaque   int32             `json:"opaque"` // an answer has its request's
	Flag     int               `json:"flag"`
	Remark   string            `json:"remark,omitempty"`
	Fields   map[string]string `json:"extFields,omitempty"`
	body     []byte
}

func (f *frame) isAnswer() bool { return f.Flag&flagAnswer != 0 }

// append appends the frame as it goes over the wire.
func (f *frame) append(b []byte) ([]byte, error) {
	header, err := json.Marshal(f)
	if err != nil {
		return b, err
	}
	b = binary.BigEndian.AppendUint32(b, uint32(sizeOfLength+len(header)+len(f.body)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(header))|codingJSON<<24)
	return append(append(b, header...), f.body...), nil
}

var errNotRemoting = errors.New("what answers there does not speak RocketMQ's protocol")

// readFrame reads the next frame. ok is false for one whose header is coded in a
// way that nobody asked for: a broker's own requests may be.
func readFrame(r io.Reader) (f frame, ok bool, err error) {
	var sizes [2 * sizeOfLength]byte
	if _, err := io.ReadFull(r, sizes[:]); err != nil {
		return f, false, err
	}
	total := binary.BigEndian.Uint32(sizes[:])
	word := binary.BigEndian.Uint32(sizes[sizeOfLength:])
	header := word & headerLengthMask
	if total < sizeOfLength || total > maxFrame || header > total-sizeOfLength || header > maxFrameHeader {
		return f, false, fmt.Errorf("%w: a frame of %d bytes with a header of %d", errNotRemoting, total, header)
	}
	rest := make([]byte, total-sizeOfLength)
	if _, err := io.ReadFull(r, rest); err != nil {
		return f, false, err
	}
	if word>>24 != codingJSON {
		return f, false, nil
	}
	if err := json.Unmarshal(rest[:header], &f); err != nil {
		return f, false, fmt.Errorf("%w: %w", errNotRemoting, err)
	}
	f.body = rest[header:]
	return f, true, nil
}
