package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"manna/gift"
)

// Config is a whole configuration, checked. Nobody changes it after Parse: a
// reload makes a new one.
type Config struct {
	File string // as it was given to Load

	// Data is the directory of the fallback log and all other state of this
	// node. `data`, default ./manna-data.
	Data       string
	Listen     Listen
	Node       string // `node`, a name; default the host's name
	Durability string // `durability`: local (default) or replicated
	Queue      Queue
	Guard      Guard
	Ledger     Ledger
	Archive    Archive
	Reconcile  Reconcile
	Log        Log
	Limits     Limits
	// Shutdown bounds the time from SIGTERM to the exit. `shutdown`, default 20s.
	Shutdown time.Duration
	Auth     Auth
	// Receipts is what receipts are made with. `receipts: {secret}`, the same on all
	// nodes of a cluster; empty: each node makes itself a secret.
	Receipts Secret

	Partners  []*Partner       // `partners: {name: …}`, in the order of the file
	Campaigns []*gift.Campaign // `campaigns: {name: …}`, in the order of the file

	// Warnings are what is odd but may be meant, in the order of the file.
	Warnings []Problem

	doc *document
}

// Listen are the addresses of `listen: {public, admin}`: ":8080" is every
// interface, "127.0.0.1:8080" this machine only. Defaults :8080 and :8081.
type Listen struct{ Public, Admin string }

// Reconcile is `reconcile: {cron, backlog_under}`.
type Reconcile struct {
	Cron string // five fields in UTC, default "7 * * * *"
	// BacklogUnder is the number of waiting orders from which on a run is put
	// off. Default 100000.
	BacklogUnder int64
}

// Log is `log: {segment_bytes, segment_age, linger}`, of the fallback log.
type Log struct {
	SegmentBytes int64         // a segment is sealed at this size, default 64MiB
	SegmentAge   time.Duration // or at this age, default 10m, of a cluster's node 2m
	Linger       time.Duration // bounds how long an fsync gives way to more claims, default 500us
}

// Limits is `limits: {…}`, of the public API.
type Limits struct {
	MaxBody           int64         // `max_body` of one claim, default 64KiB
	MaxBatchBody      int64         // `max_batch_body` of a batch of claims, default 8MiB
	MaxInFlightClaims int           // `max_in_flight_claims`: more are answered `overloaded`; default 8192
	ReadTimeout       time.Duration // `read_timeout` of a whole request, default 5s
	WriteTimeout      time.Duration // `write_timeout` of a whole answer, default 15s
	IdleTimeout       time.Duration // `idle_timeout` of a kept connection, default 2m
}

// Auth is `auth: {jwt, callers}`: who may claim. With neither, only
// `manna serve --dev` takes claims.
type Auth struct {
	JWT     *JWT     // of users; nil where there is none
	Callers []Caller // servers that sign their requests, in the order of the file
}

// JWT is `jwt: {algorithms, key_file, issuer, audience, leeway}`.
type JWT struct {
	Algorithms []string // accepted ones: RS256, ES256, EdDSA, HS256 and their kin; all symmetric or none
	KeyFile    string   // public keys in PEM, or the shared secret of HS…: as many bytes as its hash has
	Issuer     string   // required `iss`; empty: any
	Audience   string   // required in `aud`; empty: any
	// Leeway is how long a token is taken after its `exp` and before its `nbf`,
	// because the issuer's clock may be off. Default 30s, at most 5m.
	Leeway time.Duration
}

// Caller is one of `callers: {name: {secret}}`. The secret is whsec_ and base64, or
// the key's own bytes; the key has at least 24.
type Caller struct {
	Name   string
	Secret Secret
}

// Load reads the file at path with the process's environment. Its error is
// Errors, or says why the file cannot be read.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: write one with `manna init %s`, or name another with --config", path, path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return Parse(path, data, os.LookupEnv)
}

// Parse reads data as the file called name, whose directory relative paths start
// from. It looks whether the files that are named exist, and opens the key file
// of tokens alone. Its error is Errors.
func Parse(name string, data []byte, lookup func(env string) (string, bool)) (*Config, error) {
	d := open(name, data, lookup)
	c := &Config{File: name, doc: d}
	if d.root != nil {
		c.read(value{doc: d, node: d.root, at: placeOf(d.root)})
	}
	if len(d.problems) > 0 {
		sortProblems(d.problems)
		return nil, Errors(d.problems)
	}
	sortProblems(d.warnings)
	c.Warnings = d.warnings
	return c, nil
}

func (c *Config) read(root value) {
	o, ok := root.object("write `key: value` lines; `manna init` shows them all")
	if !ok {
		return
	}
	c.readServer(o)
	c.readAuth(o)
	c.readPartners(o)
	c.readCampaigns(o)
	o.done()
}

// Partner finds a partner by name.
func (c *Config) Partner(name string) (*Partner, bool) {
	for _, p := range c.Partners {
		if p.Name == name {
			return p, true
		}
	}
	return nil, false
}

// Campaign finds a campaign by name.
func (c *Config) Campaign(name string) (*gift.Campaign, bool) {
	for _, k := range c.Campaigns {
		if k.Name == name {
			return k, true
		}
	}
	return nil, false
}

// Written gives the text at key as it may be shown: with ${NAME} where the file
// has it.
func (c *Config) Written(key, text string) string {
	if s, ok := c.doc.written[key]; ok {
		text = s
	}
	return userinfo.ReplaceAllString(text, "://"+redacted+"@")
}

// Problem is an error at key's place in the file, or at what key is part of, for
// what only the rest of the program can find out.
func (c *Config) Problem(key, message, remedy string) Problem {
	at := key
	for {
		if place, ok := c.doc.places[at]; ok {
			return c.doc.problem(place, key, message, remedy)
		}
		dot := strings.LastIndexByte(at, '.')
		if dot < 0 {
			return c.doc.problem(place{}, key, message, remedy)
		}
		at = at[:dot]
	}
}

// path resolves a path of the file against the directory of the file.
func (d *document) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(d.dir, p)
}

// existing reads the path of a file that must be there.
func (v value) existing(into *string) bool {
	var s string
	if !v.text(&s) {
		return false
	}
	path := v.doc.path(s)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.fail("put the file there, or correct the path: it starts from the directory of this configuration", "there is no file %s", v.shownPath(path))
	case err != nil:
		v.unreadable(path, err)
	case !info.Mode().IsRegular():
		v.fail("name a file", "%s is no file", v.shownPath(path))
	default:
		*into = path
		return true
	}
	return false
}

// unreadable reports a file that is there and cannot be read.
func (v value) unreadable(path string, err error) {
	// The system's error repeats the path, which may come from a variable.
	var e *fs.PathError
	if errors.As(err, &e) {
		err = e.Err
	}
	v.fail("correct the path or the rights", "the file %s cannot be read: %v", v.shownPath(path), err)
}

// shownPath gives a path as it may be shown.
func (v value) shownPath(path string) string {
	if written, ok := v.doc.written[v.key]; ok {
		path = written
	}
	return clip(path)
}
