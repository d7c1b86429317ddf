package producer

import (
	"io"
	"net/http"
	"sync"

	"manna/gift"
)

// receive tells who calls and reads the body of at most limit bytes.
func (f *Front) receive(r *http.Request, limit int64) (who caller, body string, err error) {
	var signed *signature
	if !f.dev {
		if who, signed, err = f.auth.Load().identify(r.Header); err != nil {
			return who, "", err
		}
	}
	if body, err = readBody(r, limit); err == nil && signed != nil {
		err = signed.verify(body)
	}
	return who, body, err
}

// buffers are for bodies on their way in and answers on their way out.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// maxPooled keeps the room of a rare large body from staying.
const maxPooled = 128 << 10

func giveBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		buffers.Put(b)
	}
}

func readBody(r *http.Request, limit int64) (string, error) {
	tooLong := &httpError{gift.Errorf(gift.BadRequest, "the body is longer than %d bytes", limit), http.StatusRequestEntityTooLarge}
	if r.ContentLength == 0 || r.Body == nil {
		return "", nil
	}
	if r.ContentLength > limit {
		return "", tooLong
	}
	room := buffers.Get().(*[]byte)
	defer giveBuffer(room)
	b := (*room)[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		*room = b
		if int64(len(b)) > limit {
			return "", tooLong
		}
		if err == io.EOF {
			return string(b), nil
		}
		if err != nil {
			return "", gift.Errorf(gift.BadRequest, "the body could not be read to its end")
		}
	}
}

// jsonType is shared by all answers: a header value that nobody changes.
var jsonType = []string{"application/json"}

// write sends JSON that build appends to a buffer.
func write(w http.ResponseWriter, status int, build func(b []byte) []byte) error {
	room := buffers.Get().(*[]byte)
	defer giveBuffer(room)
	*room = build((*room)[:0])
	w.Header()["Content-Type"] = jsonType
	w.WriteHeader(status)
	// The caller may be gone; what was accepted stays accepted.
	_, _ = w.Write(*room)
	return nil
}
