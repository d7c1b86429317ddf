package producer

import (
	"encoding/json"
	"time"

	"manna/gift"
)

// appendAnswer appends the JSON of a claim as every answer about it reads.
func appendAnswer(b []byte, a *Answer) []byte {
	c := a.Claim
	b = append(b, `{"claim_id":"`...)
	b, _ = c.ID.AppendText(b) // it never fails
	if a.Settled() {
		b = append(b, `","state":"settled"`...)
	} else {
		b = append(b, `","state":"accepted"`...)
	}
	if a.Duplicate {
		b = append(b, `,"duplicate":true,"gift":`...)
	} else {
		b = append(b, `,"duplicate":false,"gift":`...)
	}
	b = appendString(b, c.Gift)
	b = append(b, `,"orders":[`...)
	for i := range c.Orders {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"order_id":"`...)
		b, _ = c.Orders[i].ID.AppendText(b)
		b = append(b, `","item":`...)
		b = appendString(b, c.Orders[i].Item)
		b = append(b, `,"state":"`...)
		b = append(b, a.state(i).String()...)
		b = append(b, `"}`...)
	}
	b = append(b, `],"deliver_by":"`...)
	b = c.DeliverBy.AppendFormat(b, time.RFC3339Nano)
	if a.Receipt != "" {
		b = append(b, `","receipt":"`...)
		b = append(b, a.Receipt...)
	}
	if !a.AsOf.IsZero() {
		b = append(b, `","as_of":"`...)
		b = a.AsOf.AppendFormat(b, time.RFC3339Nano)
	}
	return append(b, `"}`...)
}

// appendString appends a JSON string. Names need no escapes, so that nearly all
// take the short way.
func appendString(b []byte, s string) []byte {
	if gift.CheckName(s) == nil {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	quoted, _ := json.Marshal(s) // a string always marshals
	return append(b, quoted...)
}
