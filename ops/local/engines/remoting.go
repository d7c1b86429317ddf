package engines

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
)

// Requests of RocketMQ's remoting protocol.
const (
	requestBrokerInfo = 28
	requestRoute      = 105
)

// A remotingAnswer is what a RocketMQ server says to a request.
type remotingAnswer struct {
	Code   int    `json:"code"` // 0: done
	Remark string `json:"remark"`
	body   []byte
}

// Frames beyond this are not what a probe's answer looks like.
const largestFrame = 4 << 20

// askRemoting sends one request on a connection of its own. The error is nil
// whenever the server answered, whatever it said. A frame is
//
//	u32 length of the rest | u8 header's coding | u24 header's length | header | body
func askRemoting(ctx context.Context, addr string, code int, fields map[string]string) (remotingAnswer, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return remotingAnswer{}, err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return remotingAnswer{}, err
		}
	}
	header, err := json.Marshal(map[string]any{
		"code": code, "language": "GO", "version": 317, "opaque": 1, "flag": 0, "extFields": fields,
	})
	if err != nil {
		return remotingAnswer{}, err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header))) // coding 0: JSON
	if _, err := conn.Write(append(frame, header...)); err != nil {
		return remotingAnswer{}, err
	}
	return readRemoting(conn)
}

func readRemoting(r io.Reader) (remotingAnswer, error) {
	var sizes [8]byte
	if _, err := io.ReadFull(r, sizes[:]); err != nil {
		return remotingAnswer{}, fmt.Errorf("no answer: %w", err)
	}
	total := binary.BigEndian.Uint32(sizes[:4])
	header := binary.BigEndian.Uint32(sizes[4:]) & 0xffffff
	if total < 4 || total > largestFrame || header > total-4 {
		return remotingAnswer{}, fmt.Errorf("not an answer of RocketMQ: a frame of %d bytes with a header of %d", total, header)
	}
	rest := make([]byte, total-4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return remotingAnswer{}, fmt.Errorf("half an answer: %w", err)
	}
	answer := remotingAnswer{body: rest[header:]}
	if err := json.Unmarshal(rest[:header], &answer); err != nil {
		return remotingAnswer{}, fmt.Errorf("not an answer of RocketMQ: header %q: %w", rest[:header], err)
	}
	return answer, nil
}
