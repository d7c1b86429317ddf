package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Problem is one thing that is wrong, or odd, in a configuration.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0 where it is about the whole file
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Key     string `json:"key,omitempty"`    // "partners.midas.rate", "….items[2].sku"
	Message string `json:"message"`          // what is wrong
	Remedy  string `json:"remedy,omitempty"` // what to write instead
	Source  string `json:"source,omitempty"` // the line, its secrets masked

	width int // characters that the caret underlines
}

// Error gives the problem as people read it: several lines without an end of
// line, the first of which editors and CI can jump to.
func (p Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.head())
	if p.Line > 0 {
		number := fmt.Sprintf("%4d", p.Line)
		fmt.Fprintf(&b, "\n%s | %s", number, p.Source)
		fmt.Fprintf(&b, "\n%s | %s", strings.Repeat(" ", len(number)), p.caret())
	}
	if p.Remedy != "" {
		b.WriteString("\n     = " + p.Remedy)
	}
	return b.String()
}

// head is where the problem is and what it is.
func (p Problem) head() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	b.WriteString(": ")
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// LogValue gives the problem in one line, as a log needs it.
func (p Problem) LogValue() slog.Value {
	text := p.head()
	if p.Remedy != "" {
		text += ": " + p.Remedy
	}
	return slog.StringValue(text)
}

// caret is the line that points at the place. It repeats tabs, so that it stands
// right at any tab width.
func (p Problem) caret() string {
	source := []rune(p.Source)
	start := min(p.Column-1, len(source))
	var b strings.Builder
	for _, r := range source[:start] {
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	b.WriteString(strings.Repeat("^", max(1, min(p.width, len(source)-start))))
	return b.String()
}

// Errors is everything that is wrong with a configuration, in order of place. It
// is never empty.
type Errors []Problem

func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, p := range e {
		texts[i] = p.Error()
	}
	return strings.Join(texts, "\n")
}

// LogValue gives the problems in one line.
func (e Errors) LogValue() slog.Value {
	texts := make([]string, len(e))
	for i, p := range e {
		texts[i] = p.LogValue().String()
	}
	return slog.StringValue(strings.Join(texts, "; "))
}

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
