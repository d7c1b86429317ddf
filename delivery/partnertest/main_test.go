package partnertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"manna/gift"
)

// childEnv makes the test binary serve a partner, print its address and stay.
const childEnv = "PARTNERTEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("http://" + l.Addr().String())
	log.Fatal(New(Script{}).Serve(context.Background(), l))
}

func orderID(n int) gift.OrderID {
	return gift.NewCampaignID("c").ClaimID("s", fmt.Sprint(n), "").OrderID("i")
}

// client makes no connection that outlives its answer.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) field(name string) any {
	var fields map[string]any
	_ = json.Unmarshal([]byte(r.body), &fields)
	return fields[name]
}

func send(ctx context.Context, method, url string, body any) (reply, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return reply{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(out)}, err
}

func grant(t *testing.T, p *Partner, id gift.OrderID) reply {
	t.Helper()
	r, err := send(t.Context(), "POST", p.URL+"/grant", map[string]any{"order_id": id, "user": "u", "sku": "S", "amount": 500})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func query(t *testing.T, p *Partner, id gift.OrderID) reply {
	t.Helper()
	r, err := send(t.Context(), "GET", p.URL+"/orders/"+id.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
