package fallbacklog

import "manna/gift"

// AppendClaim appends to b the wire format that a claim has in its record. Others
// that carry claims, such as queues, are so as tolerant of releases as the log.
func AppendClaim(b []byte, c *gift.Claim) []byte { return appendClaim(b, c) }

// DecodeClaim reads what AppendClaim wrote. The claim keeps no part of b.
func DecodeClaim(b []byte) (*gift.Claim, error) { return decodeClaim(new(roomOfClaim), b, string(b)) }
