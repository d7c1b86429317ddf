package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// bareChild is the argument with which this program is the bare handler.
const bareChild = "serve-bare-handler"

// bareClaim and bareAnswer are the JSON of POST /v1/claims and of its 202, as one
// would first write them.
type bareClaim struct {
	Campaign string          `json:"campaign"`
	Scene    string          `json:"scene"`
	Stage    string          `json:"stage,omitempty"`
	Gift     string          `json:"gift"`
	User     string          `json:"user"`
	Platform string          `json:"platform,omitempty"`
	Target   json.RawMessage `json:"target,omitempty"`
}

type bareAnswer struct {
	ClaimID   string      `json:"claim_id"`
	State     string      `json:"state"`
	Duplicate bool        `json:"duplicate"`
	Gift      string      `json:"gift"`
	Orders    []bareOrder `json:"orders"`
	DeliverBy time.Time   `json:"deliver_by"`
	Receipt   string      `json:"receipt"`
}

type bareOrder struct {
	OrderID string `json:"order_id"`
	Item    string `json:"item"`
	State   string `json:"state"`
}

// serveBare answers every claim as accepted and does nothing about it: net/http
// and encoding/json as they come, and no identity, no disk, no memory of it. It
// ends with SIGTERM.
func serveBare() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/claims", func(w http.ResponseWriter, r *http.Request) {
		var c bareClaim
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(bareAnswer{ // an error is the caller's connection breaking
			ClaimID: "11111111-2222-5333-8444-555555555555", State: "accepted", Gift: c.Gift,
			Orders:    []bareOrder{{OrderID: "66666666-7777-5888-9999-aaaaaaaaaaaa", Item: "vip-30", State: "accepted"}},
			DeliverBy: time.Now().UTC().Truncate(time.Millisecond).Add(48 * time.Hour),
			Receipt:   "mr1.AAAAAAAAAAAAAAAAAAAAAA",
		})
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(map[string]string{"public": l.Addr().String()})
	server := &http.Server{Handler: mux}
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	server.Serve(l)
}
