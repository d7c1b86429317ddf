package producer

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"manna/gift"
)

//go:embed openapi.json
var openapi []byte

// route is one operation of the public API; openapi.json describes the same ones.
type route struct {
	method, path string
	handle       func(w http.ResponseWriter, r *http.Request) error
}

func (f *Front) routes() []route {
	return []route{
		{"POST", "/v1/claims", f.postClaim},
		{"POST", "/v1/claims/batch", f.postBatch},
		{"GET", "/v1/claims/{id}", f.getClaim},
		{"POST", "/v1/claims/{id}/settle", f.postSettle},
		{"GET", "/v1/orders/{id}", f.getOrder},
		{"GET", "/v1/users/{user}/claims", f.getUserClaims},
		{"GET", "/openapi.json", getOpenAPI},
	}
}

// Handler serves the public API.
func (f *Front) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, route := range f.routes() {
		mux.HandleFunc(route.method+" "+route.path, func(w http.ResponseWriter, r *http.Request) {
			if err := route.handle(w, r); err != nil {
				f.refuse(w, r, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { noRoute(mux, w, r) })
	return mux
}

// refuse tells the caller of an error, and the log where it is ours.
func (f *Front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if _, told := errors.AsType[*gift.Error](err); !told && r.Context().Err() == nil {
		f.unanswered.Tell("method", r.Method, "path", r.URL.Path, "err", err)
	}
	WriteProblem(w, err)
}

// noRoute answers where no route fits: the path is unknown or takes other
// methods.
func noRoute(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{"GET", "POST"} {
		if _, pattern := mux.Handler(&http.Request{Method: method, Host: r.Host, URL: r.URL}); pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if allowed == nil {
		WriteProblem(w, gift.Errorf(gift.NotFound, "nothing is at %s; /openapi.json describes what there is", quoted(r.URL.Path)))
		return
	}
	allow := strings.Join(allowed, ", ")
	w.Header().Set("Allow", allow)
	WriteProblem(w, &httpError{gift.Errorf(gift.BadRequest, "the method here is %s", allow), http.StatusMethodNotAllowed})
}

func (f *Front) postClaim(w http.ResponseWriter, r *http.Request) error {
	who, body, err := f.receive(r, f.limits.Body)
	if err != nil {
		return err
	}
	req, err := decodeRequest(body)
	if err != nil {
		return err
	}
	if err := who.speakFor(&req); err != nil {
		return err
	}
	answer, err := f.claim(r.Context(), &req)
	if err != nil {
		return err
	}
	return write(w, statusOf(&answer), func(b []byte) []byte { return appendAnswer(b, &answer) })
}

func statusOf(a *Answer) int {
	if a.Duplicate {
		return http.StatusOK
	}
	return http.StatusAccepted
}

// speakFor puts the caller's user into the request, or checks the one it names.
func (c caller) speakFor(req *Request) error {
	switch {
	case c.user == "" && req.User == "":
		return fieldError("user", "is missing: name the user")
	case req.User == "":
		req.User = c.user
	case !c.may(req.User):
		return &gift.Error{Code: gift.Forbidden, Field: "user", Detail: "the token is another user's"}
	}
	return nil
}

func (f *Front) postBatch(w http.ResponseWriter, r *http.Request) error {
	who, body, err := f.receive(r, f.limits.BatchBody)
	if err != nil {
		return err
	}
	if who.user != "" {
		return gift.Errorf(gift.Forbidden, "batches are for registered callers that sign their requests")
	}
	reqs, refused, err := decodeBatch(body, f.limits.Batch)
	if err != nil {
		return err
	}
	for i := range reqs {
		if refused[i] != nil {
			continue
		}
		if err := who.speakFor(&reqs[i]); err != nil {
			if refused == nil {
				refused = make(map[int]error)
			}
			refused[i] = err
		}
	}
	results, err := f.claimOthers(r.Context(), reqs, refused)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, func(b []byte) []byte { return appendResults(b, results) })
}

// claimOthers is claimBatch for those requests that are not refused already.
func (f *Front) claimOthers(ctx context.Context, reqs []Request, refused map[int]error) ([]Result, error) {
	if len(refused) == 0 {
		return f.claimBatch(ctx, reqs)
	}
	others := make([]Request, 0, len(reqs)-len(refused))
	for i := range reqs {
		if refused[i] == nil {
			others = append(others, reqs[i])
		}
	}
	var answers []Result
	if len(others) > 0 {
		var err error
		if answers, err = f.claimBatch(ctx, others); err != nil {
			return nil, err
		}
	}
	results := make([]Result, len(reqs))
	for i := range results {
		if refused[i] != nil {
			results[i].Err = refused[i]
		} else {
			results[i], answers = answers[0], answers[1:]
		}
	}
	return results, nil
}

// appendResults appends the answer to a batch: one entry for each claim, as it
// would have been answered by itself.
func appendResults(b []byte, results []Result) []byte {
	b = append(b, `{"answers":[`...)
	for i := range results {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"status":`...)
		if err := results[i].Err; err != nil {
			p, retry := problemOf(err)
			b = strconv.AppendInt(b, int64(p.Status), 10)
			if retry > 0 {
				b = append(b, `,"retry_after":`...)
				b = strconv.AppendInt(b, int64((retry+time.Second-1)/time.Second), 10)
			}
			text, _ := json.Marshal(p) // strings and a number always marshal
			b = append(append(b, `,"problem":`...), text...)
		} else {
			b = strconv.AppendInt(b, int64(statusOf(&results[i].Answer)), 10)
			b = appendAnswer(append(b, `,"claim":`...), &results[i].Answer)
		}
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// claimFor reads the claim that the path names, if it is the caller's. To others
// it is not there: an id must not tell who claimed what.
func (f *Front) claimFor(who caller, r *http.Request) (Answer, error) {
	id, err := gift.ParseClaimID(r.PathValue("id"))
	if err != nil {
		return Answer{}, fieldError("id", "%v", err)
	}
	answer, err := f.Read(r.Context(), id)
	if err == nil && !who.may(answer.Claim.User) {
		err = gift.Errorf(gift.NotFound, "there is no claim %v", id)
	}
	return answer, err
}

func (f *Front) getClaim(w http.ResponseWriter, r *http.Request) error {
	who, _, err := f.receive(r, f.limits.Body)
	if err != nil {
		return err
	}
	answer, err := f.claimFor(who, r)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, func(b []byte) []byte { return appendAnswer(b, &answer) })
}

func (f *Front) postSettle(w http.ResponseWriter, r *http.Request) error {
	who, _, err := f.receive(r, f.limits.Body)
	if err != nil {
		return err
	}
	answer, err := f.claimFor(who, r)
	if err != nil {
		return err
	}
	sent, err := f.Settle(r.Context(), answer.Claim.ID)
	if err != nil {
		return f.ours("settle a claim", err)
	}
	if answer, err = f.Read(r.Context(), answer.Claim.ID); err != nil {
		return err
	}
	status := http.StatusAccepted
	if !sent {
		status = http.StatusOK
	}
	return write(w, status, func(b []byte) []byte { return appendAnswer(b, &answer) })
}

func (f *Front) getOrder(w http.ResponseWriter, r *http.Request) error {
	who, _, err := f.receive(r, f.limits.Body)
	if err != nil {
		return err
	}
	id, err := gift.ParseOrderID(r.PathValue("id"))
	if err != nil {
		return fieldError("id", "%v", err)
	}
	order, err := f.readOrder(r.Context(), id)
	if err != nil {
		return err
	}
	if !who.may(order.User) {
		return gift.Errorf(gift.NotFound, "there is no order %v", id)
	}
	return writeJSON(w, order)
}

func writeJSON(w http.ResponseWriter, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return write(w, http.StatusOK, func(b []byte) []byte { return append(b, text...) })
}

func (f *Front) getUserClaims(w http.ResponseWriter, r *http.Request) error {
	who, _, err := f.receive(r, f.limits.Body)
	if err != nil {
		return err
	}
	user := r.PathValue("user")
	if err := gift.CheckUser(user); err != nil {
		return fieldError("user", "%v", err)
	}
	if !who.may(user) {
		return &gift.Error{Code: gift.Forbidden, Field: "user", Detail: "the token is another user's"}
	}
	limit := maxList
	query := r.URL.Query()
	if s := query.Get("limit"); s != "" {
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > maxList {
			return fieldError("limit", "is %s, want a number from 1 to %d", quoted(s), maxList)
		}
	}
	var before gift.ClaimID
	if s := query.Get("before"); s != "" {
		if before, err = gift.ParseClaimID(s); err != nil {
			return fieldError("before", "%v", err)
		}
	}
	list, err := f.list(r.Context(), user, before, limit)
	if err != nil {
		return err
	}
	return writeJSON(w, list)
}

func getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	return write(w, http.StatusOK, func(b []byte) []byte { return append(b, openapi...) })
}
