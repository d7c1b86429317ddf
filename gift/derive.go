package gift

import "crypto/sha1"

// derive is UUIDv5 (RFC 9562, section 5.5) on the stack: the claim path calls
// it two to ten times for every claim, and uuid.NewSHA1 allocates its hash.
func derive(namespace [16]byte, name []byte) [16]byte {
	var room [512]byte
	sum := sha1.Sum(append(append(room[:0], namespace[:]...), name...))
	var id [16]byte
	copy(id[:], sum[:])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}
