package fallbacklog

import (
	"errors"
	"fmt"
)

var (
	// ErrClosed: the log has been closed.
	ErrClosed = errors.New("fallback log is closed")
	// ErrPoisoned: a write or sync failed, so what the file holds is not known.
	// The process must end; the next Open reads what is really there.
	ErrPoisoned = errors.New("fallback log is poisoned by a failed write: stop this process and start it again")
	// ErrTooLarge: the record is larger than MaxRecord.
	ErrTooLarge = fmt.Errorf("record is larger than %d bytes", MaxRecord)
	// ErrNotFound: no record has this id.
	ErrNotFound = errors.New("not in the log")
	// ErrTail: a reader that does not wait has reached the end of what is durable.
	ErrTail = errors.New("end of the log")
)

// CorruptError says where the log does not read back what was written. It does
// not mean that later records are lost: Repair salvages every record that
// validates.
type CorruptError struct {
	Path   string
	Offset int64 // of the first byte that does not validate
	Why    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: corrupt at offset %d: %s; salvage what validates with: manna log repair", e.Path, e.Offset, e.Why)
}
