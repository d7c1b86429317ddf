package bucket

import "errors"

// What a bucket's errors match. Their texts name the bucket, the key and the remedy.
var (
	// ErrNotFound: the key has no object.
	ErrNotFound = errors.New("no such object")
	// ErrConflict: the key has another content than it should.
	ErrConflict = errors.New("another object is there")
	// ErrNoBucket: the bucket does not exist.
	ErrNoBucket = errors.New("no such bucket")
	// ErrDenied: whoever we are may not do this.
	ErrDenied = errors.New("permission denied")
	// ErrCredentials: we are not who we say we are.
	ErrCredentials = errors.New("wrong credentials")
	// ErrUnreachable: nobody answers at the address.
	ErrUnreachable = errors.New("unreachable")
)

// Lasting tells whether a person has to change something before the bucket can be
// used. Everything else may pass.
func Lasting(err error) bool {
	return errors.Is(err, ErrNoBucket) || errors.Is(err, ErrDenied) || errors.Is(err, ErrCredentials)
}
