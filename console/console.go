package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"manna/breaker"
	"manna/consumer"
	"manna/fallbacklog"
	"manna/gift"
	"manna/ledger"
	"manna/producer"
	"manna/queue"
	"manna/reconcile"
)

// Options are the rooms that the console looks into. All but Consumer, Cluster, Logs,
// Notes, Logger and Now are required.
type Options struct {
	Log      *fallbacklog.Log
	Front    *producer.Front
	Consumer *consumer.Consumer // nil: this node serves no lanes
	Queue    queue.Queue
	Breakers *breaker.Set
	Switches *Switches
	Ledger   ledger.Ledger
	// Cluster is the ledger, where other nodes may have it too; nil else.
	Cluster ledger.Cluster
	// Logs opens what the archive has of another node's log; required with Cluster.
	Logs Logs
	// Reconcile makes one run.
	Reconcile func(context.Context, reconcile.Request) (*reconcile.Report, error)
	// Campaigns names those that are configured now.
	Campaigns func() []string
	// NotReady names what keeps the node from doing its job.
	NotReady func(context.Context) []string
	// Notes says what is worse than it should be while the node does its job; may be
	// nil.
	Notes func(context.Context) []string
	// Nodes are those of the cluster, as they were known last; nil without one.
	Nodes   func() []ledger.Node
	Metrics prometheus.Gatherer
	Token   string // bearer token of /v1/admin
	Version string
	Logger  *slog.Logger
	Now     func() time.Time
}

// Console serves the admin API. Its handler is safe for concurrent use.
type Console struct {
	auditor
	opts    Options
	token   [32]byte
	started time.Time
	changes *changes
}

// New makes a console.
func New(opts Options) *Console {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Notes == nil {
		opts.Notes = func(context.Context) []string { return nil }
	}
	return &Console{auditor: auditor{opts.Ledger, opts.Log.Node(), opts.Logger}, opts: opts, token: sha256.Sum256([]byte(opts.Token)), started: opts.Now(), changes: newChanges()}
}

// Handler serves everything on the admin port.
func (c *Console) Handler() http.Handler {
	admin := http.NewServeMux()
	for pattern, handle := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/admin/status":               c.status,
		"GET /v1/admin/partners":             c.partners,
		"GET /v1/admin/switches":             c.switches,
		"POST /v1/admin/switches/{name...}":  c.hold,
		"GET /v1/admin/orders/{id}":          c.order,
		"GET /v1/admin/claims/{id}":          c.claim,
		"POST /v1/admin/orders/{id}/reissue": c.reissue,
		"POST /v1/admin/claims":              c.claims,
		"GET /v1/admin/nodes":                c.nodes,
		"POST /v1/admin/nodes/{name}/{deed}": c.declare,
		"POST /v1/admin/nodes/{name}/settle": c.settle,
		"POST /v1/admin/reconcile":           c.reconcile,
		"GET /v1/admin/runs":                 c.runs,
		"GET /v1/admin/audit":                c.audit,
	} {
		admin.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var err error
			if r.Method == http.MethodPost {
				err = c.changes.do(r.Context(), func(ctx context.Context) error { return handle(w, r.WithContext(ctx)) })
			} else {
				err = handle(w, r)
			}
			if err != nil {
				c.refuse(w, err)
			}
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		c.refuse(w, gift.Errorf(gift.NotFound, "there is no %s %s", r.Method, r.URL.Path))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", c.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.opts.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	mux.HandleFunc("/v1/admin/", func(w http.ResponseWriter, r *http.Request) {
		given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		sum := sha256.Sum256([]byte(given))
		if !ok || subtle.ConstantTimeCompare(sum[:], c.token[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			c.refuse(w, gift.Errorf(gift.Unauthenticated, "the admin API wants `Authorization: Bearer …` with the token from admin.token in the data directory"))
			return
		}
		if _, pattern := admin.Handler(r); pattern == "" {
			c.refuse(w, gift.Errorf(gift.NotFound, "there is no %s %s", r.Method, r.URL.Path))
			return
		}
		admin.ServeHTTP(w, r)
	})
	return mux
}

func (c *Console) ready(w http.ResponseWriter, r *http.Request) {
	missing := c.opts.NotReady(r.Context())
	status := http.StatusOK
	if len(missing) > 0 {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, struct {
		Ready    bool     `json:"ready"`
		NotReady []string `json:"not_ready,omitempty"`
		Notes    []string `json:"notes,omitempty"`
	}{len(missing) == 0, missing, c.opts.Notes(r.Context())})
}

// Status is a node at a glance.
type Status struct {
	Node     string                `json:"node"`
	Version  string                `json:"version"`
	Started  time.Time             `json:"started"`
	LogEnd   fallbacklog.Position  `json:"log_end"`
	LogFree  int64                 `json:"log_free_bytes"`
	NotReady []string              `json:"not_ready,omitempty"`
	Notes    []string              `json:"notes,omitempty"`
	Lanes    []consumer.LaneStatus `json:"lanes"`
	Breakers []breaker.Snapshot    `json:"breakers"`
}

func (c *Console) status(w http.ResponseWriter, r *http.Request) error {
	free, err := c.opts.Log.Free()
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, Status{
		Node: c.opts.Log.Node(), Version: c.opts.Version, Started: c.started, LogEnd: c.opts.Log.End(), LogFree: free,
		NotReady: c.opts.NotReady(r.Context()), Notes: c.opts.Notes(r.Context()),
		Lanes: c.lanes(r.Context()), Breakers: c.snapshots(),
	})
	return nil
}

func (c *Console) partners(w http.ResponseWriter, r *http.Request) error {
	answer(w, http.StatusOK, map[string]any{"partners": c.lanes(r.Context())})
	return nil
}

// lanes are those that this node serves.
func (c *Console) lanes(ctx context.Context) []consumer.LaneStatus {
	if c.opts.Consumer == nil {
		return []consumer.LaneStatus{}
	}
	return c.opts.Consumer.Lanes(ctx)
}
