package notice

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// Handler gives a handler that brings records into the form that the package
// comment describes and hands them to h. It is safe for concurrent use where h is.
func Handler(h slog.Handler) slog.Handler { return handler{h} }

type handler struct{ to slog.Handler }

func (h handler) Enabled(ctx context.Context, level slog.Level) bool { return h.to.Enabled(ctx, level) }

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, OneLine(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(plain(a))
		return true
	})
	return h.to.Handle(ctx, out)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.to.WithAttrs(plainAll(attrs))}
}

func (h handler) WithGroup(name string) slog.Handler { return handler{h.to.WithGroup(name)} }

// plain gives an attribute as it is written; the empty one is left out by every
// handler.
func plain(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	switch a.Value.Kind() {
	case slog.KindTime:
		if a.Value.Time().IsZero() {
			return slog.Attr{}
		}
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindString:
		a.Value = slog.StringValue(OneLine(a.Value.String()))
	case slog.KindGroup:
		a.Value = slog.GroupValue(plainAll(a.Value.Group())...)
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case error:
			a.Value = slog.StringValue(OneLine(v.Error()))
		case *time.Time:
			if v == nil || v.IsZero() {
				return slog.Attr{}
			}
		}
	}
	return a
}

func plainAll(attrs []slog.Attr) []slog.Attr {
	out := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		out[i] = plain(a)
	}
	return out
}

// OneLine puts what stands in several lines into one, with "; " between them: errors that
// were joined, a problem of the configuration with the line that it points at.
func OneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
