package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"manna/console/client"
	"manna/gift"
	"manna/internal/config"
	"manna/internal/disk"
)

var (
	// errFound ends a command whose output has already said what is wrong: the
	// exit code is 1 and nothing more is printed.
	errFound = errors.New("the work found something wrong")
	// errInterrupted ends a command that a signal stopped before its work was done.
	errInterrupted = errors.New("interrupted")
	// errAborted ends the process on a second signal.
	errAborted = fmt.Errorf("%w a second time, and stopped at once: what was under way is as a crash leaves it", errInterrupted)
)

// usageError is a mistake in how the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// partly is an error after part of the work was done: done is the command's
// document, as far as it came.
type partly struct {
	error
	done any
}

func (e partly) Unwrap() error { return e.error }

// placed is an error at a line of a file.
type placed struct {
	file string
	line int // from 1
	err  error
}

func (e placed) Error() string { return fmt.Sprintf("%s:%d: %v", e.file, e.line, e.err) }
func (e placed) Unwrap() error { return e.err }

// failure is the document on standard output of a command with --json that failed
// without one of its own. Field names and codes are a contract.
type failure struct {
	Error reason `json:"error"`
	Done  any    `json:"done,omitempty"` // what was done before, as the command would have said it
}

type reason struct {
	// Code is the server's where the server refused, else one of usage,
	// interrupted, config_invalid, no_server, locked, disk_full and failed.
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"` // of the request or the configuration
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"` // of File, from 1
	Column  int    `json:"column,omitempty"`
	Remedy  string `json:"remedy,omitempty"`
	// Problems are all there are where a configuration has more than one.
	Problems []config.Problem `json:"problems,omitempty"`
}

func newFailure(err error) failure {
	f := failure{Error: reason{Code: codeOf(err), Message: err.Error()}}
	r := &f.Error
	if p, ok := errors.AsType[partly](err); ok {
		f.Done = p.done
	}
	if p, ok := errors.AsType[placed](err); ok {
		r.File, r.Line = p.file, p.line
	}
	if g, ok := errors.AsType[*gift.Error](err); ok {
		r.Field = g.Field
		if err == error(g) {
			r.Message = g.Detail
		}
	}
	if all, ok := errors.AsType[config.Errors](err); ok {
		p := all[0]
		r.Message, r.Field, r.File, r.Line, r.Column, r.Remedy = p.Message, p.Key, p.File, p.Line, p.Column, p.Remedy
		if len(all) > 1 {
			r.Problems = all
		}
	}
	return f
}

func codeOf(err error) string {
	if _, ok := errors.AsType[usageError](err); ok {
		return "usage"
	}
	if g, ok := errors.AsType[*gift.Error](err); ok {
		return string(g.Code)
	}
	if _, ok := errors.AsType[config.Errors](err); ok {
		return "config_invalid"
	}
	for _, known := range []struct {
		err  error
		code string
	}{{errInterrupted, "interrupted"}, {client.ErrNoServer, "no_server"}, {disk.ErrLocked, "locked"}, {disk.ErrFull, "disk_full"}} {
		if errors.Is(err, known.err) {
			return known.code
		}
	}
	return "failed"
}

// fail tells people on errOut, and programs on out where they asked for JSON, why
// a command failed. It gives the exit code.
func fail(out, errOut io.Writer, asJSON bool, err error) int {
	fmt.Fprintf(errOut, "manna: %v\n", err)
	if asJSON {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		// Where standard output is what failed, standard error has said so.
		_ = enc.Encode(newFailure(err))
	}
	if _, usage := errors.AsType[usageError](err); usage {
		return exitUsage
	}
	return exitWrong
}

// wantsJSON finds --json in a command line that was not understood.
func wantsJSON(args []string) (wants bool) {
	for _, arg := range args {
		if arg == "--" {
			break
		}
		if arg == "--json" {
			wants = true
		} else if value, ok := strings.CutPrefix(arg, "--json="); ok {
			on, err := strconv.ParseBool(value)
			wants = on || err != nil
		}
	}
	return wants
}
