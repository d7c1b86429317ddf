package console

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"manna/gift"
	"manna/internal/disk"
	"manna/ledger"
	"manna/producer"
)

// maxBody bounds a request to the admin API.
const maxBody = 8 << 20

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// refuse answers an error as a problem, in the one form the public API has too.
func (c *Console) refuse(w http.ResponseWriter, err error) {
	var known *gift.Error
	switch {
	case errors.As(err, &known):
	case errors.Is(err, ledger.ErrNotOpen):
		known = &gift.Error{Code: gift.Unavailable, Detail: err.Error(), RetryAfter: comeAgain}
	case errors.Is(err, disk.ErrFull):
		known = gift.Errorf(gift.Unavailable, "the disk is full")
	default:
		c.opts.Logger.Error("admin request failed", "err", err)
		known = gift.Errorf(gift.Unavailable, "%v", err)
	}
	producer.WriteProblem(w, known)
}

// read decodes a bounded body strictly.
func read(r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("one JSON document, and nothing after it")
		}
	}
	if err != nil {
		return gift.Errorf(gift.BadRequest, "body: %v", err)
	}
	return nil
}
