package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"manna/gift"
	"manna/producer"
)

func TestCall(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, `{"method":%q,"token":%q,"body":%q}`, r.Method, r.Header.Get("Authorization"), body)
		case "/refused":
			producer.WriteProblem(w, &gift.Error{Code: gift.BadRequest, Field: "to", Detail: "is not after from"})
		case "/strange":
			http.Error(w, "<h1>bad gateway</h1>", http.StatusBadGateway)
		case "/broken":
			io.WriteString(w, "{")
		}
	}))
	defer server.Close()
	c := New(server.Listener.Addr().String(), "secret")

	var said struct{ Method, Token, Body string }
	if err := c.Call(t.Context(), "POST", "/echo", map[string]int{"a": 1}, &said); err != nil {
		t.Fatal(err)
	}
	if said.Method != "POST" || said.Token != "Bearer secret" || said.Body != `{"a":1}` {
		t.Errorf("the server saw %+v", said)
	}
	if err := c.Call(t.Context(), "GET", "/echo", nil, &said); err != nil || said.Body != "" {
		t.Errorf("without a body: the server saw %+v, %v", said, err)
	}

	err := c.Call(t.Context(), "GET", "/refused", nil, nil)
	got, ok := errors.AsType[*gift.Error](err)
	if want := (gift.Error{Code: gift.BadRequest, Field: "to", Detail: "is not after from"}); !ok || *got != want {
		t.Errorf("got %#v, want %#v", err, want)
	}
	if err := c.Call(t.Context(), "GET", "/strange", nil, nil); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("an answer that is no problem: got %v", err)
	}
	var syntax *json.SyntaxError
	if err := c.Call(t.Context(), "GET", "/broken", nil, &said); !errors.As(err, &syntax) {
		t.Errorf("half a document: got %v", err)
	}
	server.Close()
	if err := c.Call(t.Context(), "GET", "/echo", nil, &said); !errors.Is(err, ErrNoServer) {
		t.Errorf("nobody listens: got %v, want ErrNoServer", err)
	}
}
