package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"manna/console"
	"manna/gift"
)

func newGrant(e *env) *cobra.Command {
	g := &grant{env: e, pause: time.Second}
	cmd := &cobra.Command{
		Use:   "grant FILE.csv",
		Short: "Claim for every user in a CSV file",
		Long: `Claim for every row of a CSV file whose first line names its columns: user, and
where rows differ campaign, scene, stage, gift, platform, target (a JSON object).
What all rows share may be given by flags instead.

Progress is kept in FILE.csv.progress: after an interruption, and where the server
could not take some rows, the same command goes on where it stopped. Rows that were
refused are written to FILE.csv.refused.csv with code and detail. A row that was
claimed before counts as a duplicate and gives nothing a second time. Exit code 1
where rows were refused or not taken.`,
		Args:              usageArgs(cobra.ExactArgs(1)),
		ValidArgsFunction: arguments(files("csv")),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.file = args[0]
			return g.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&g.all.Campaign, "campaign", "", "`campaign` of rows that name none")
	cmd.Flags().StringVar(&g.all.Scene, "scene", "", "`scene` of rows that name none")
	cmd.Flags().StringVar(&g.all.Stage, "stage", "", "`stage` of rows that name none")
	cmd.Flags().StringVar(&g.all.Gift, "gift", "", "`gift` of rows that name none")
	cmd.Flags().StringVar(&g.all.Platform, "platform", "", "`platform` of rows that name none")
	completeFlag(cmd, "campaign", e.configured(campaignNames))
	completeFlag(cmd, "scene", e.configured(sceneNames(&g.all.Campaign)))
	completeFlag(cmd, "gift", e.configured(giftNames(&g.all.Campaign)))
	cmd.Flags().BoolVar(&g.restart, "restart", false, "begin with the first row again, whatever was done before")
	return cmd
}

// grant is one bulk claim.
type grant struct {
	*env
	file    string
	all     console.Claim
	restart bool
	pause   time.Duration // between tries of rows for which the server was too busy

	client  *admin
	refused *csv.Writer
	bar     *progressbar.ProgressBar
	done    progress
	sum     grantSummary
}

// tries is how often a row is claimed before the server counts as not available.
const tries = 30

type grantSummary struct {
	File        string         `json:"file"`
	Rows        int            `json:"rows"`    // settled in this run
	Skipped     int            `json:"skipped"` // settled by an earlier run
	Accepted    int            `json:"accepted"`
	Duplicates  int            `json:"duplicates"`
	Refused     int            `json:"refused"`
	Codes       map[string]int `json:"codes,omitempty"`
	Undone      int            `json:"undone,omitempty"` // sent, and not settled: the same command claims them again
	RefusedFile string         `json:"refused_file,omitempty"`
	ElapsedS    float64        `json:"elapsed_s"`
}

func (g *grant) run(ctx context.Context) error {
	began := time.Now()
	f, size, err := g.open()
	if err != nil {
		return err
	}
	defer f.Close()
	counted := &countingReader{r: f}
	rows := csv.NewReader(counted)
	rows.ReuseRecord = true
	columns, err := readColumns(g.file, rows)
	if err != nil {
		return usageError{err}
	}
	if g.client, _, err = g.admin(); err != nil {
		return err
	}
	if !g.restart {
		if err := g.done.resume(g.progressFile()); err != nil {
			return err
		}
	}
	g.sum = grantSummary{File: g.file, Skipped: g.done.Rows - len(g.done.Undone), Codes: map[string]int{}, RefusedFile: g.file + ".refused.csv"}
	mode := os.O_TRUNC
	if g.done.Rows > 0 {
		mode = os.O_APPEND
	}
	out, err := os.OpenFile(g.sum.RefusedFile, os.O_CREATE|os.O_WRONLY|mode, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	g.refused = csv.NewWriter(out)
	if g.done.Rows == 0 {
		g.refused.Write(append(slices.Clone(columns), "line", "code", "detail"))
	}
	g.startBar(size)
	err = g.claimAll(ctx, rows, columns, func() int64 { return counted.n })
	g.refused.Flush()
	err = errors.Join(err, g.refused.Error(), out.Close())
	if g.bar != nil {
		g.bar.Finish()
		fmt.Fprintln(g.err)
	}
	g.sum.ElapsedS = time.Since(began).Seconds()
	if err != nil {
		return g.stopped(ctx, err)
	}
	os.Remove(g.progressFile())
	if g.done.Refused == 0 {
		os.Remove(g.sum.RefusedFile)
		g.sum.RefusedFile = ""
	}
	if err := g.print(g.sum, g.sum.text); err != nil {
		return err
	}
	if g.done.Refused > 0 {
		return errFound
	}
	return nil
}

func (g *grant) progressFile() string { return g.file + ".progress" }

// open opens the file and begins the progress with what tells it from others.
func (g *grant) open() (f *os.File, size int64, err error) {
	f, err = os.Open(g.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("there is no file %s: name a CSV file whose first line names its columns, like user,campaign", g.file)
	}
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = usageError{fmt.Errorf("%s is no regular file: it is read twice, and its progress is kept beside it; write the rows into a file first", g.file)}
	}
	if err == nil {
		g.done, err = newProgress(f, g.all)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, g.done.Size, nil
}

// stopped says how far a run came that err ended, and how to go on.
func (g *grant) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if g.sum.Rows+g.sum.Skipped == 0 {
		// The same command begins again, so nothing is left behind.
		os.Remove(g.progressFile())
		os.Remove(g.sum.RefusedFile)
		return fmt.Errorf("%w\nnothing is known to be claimed; the same command begins with the first row", err)
	}
	// Rows that were refused after the last batch are noted too.
	err = errors.Join(err, g.done.write(g.progressFile()))
	g.sum.Undone = len(g.done.Undone)
	next := "the same command goes on from there"
	if _, broken := errors.AsType[placed](err); broken {
		next = "correct the line and use --restart: rows that were claimed count as duplicates then"
	}
	return partly{fmt.Errorf("%w\n%s; %s", err, g.sum.soFar(), next), g.sum}
}

// claimAll claims the rows that are not done yet, in batches; read gives the bytes
// of the file that were read.
func (g *grant) claimAll(ctx context.Context, rows *csv.Reader, columns []string, read func() int64) error {
	before := g.done.Rows
	again := make(map[int]bool)
	for _, n := range g.done.Undone {
		again[n] = true
	}
	var batch []row
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := g.settle(ctx, batch)
		batch = batch[:0]
		if g.bar != nil {
			g.bar.Set64(min(read(), g.done.Size))
		}
		return err
	}
	for n := 0; ; n++ {
		fields, err := rows.Read()
		if err == io.EOF {
			return send()
		}
		if broken, ok := errors.AsType[*csv.ParseError](err); ok && broken.Err != csv.ErrFieldCount {
			return errors.Join(send(), placed{g.file, broken.Line, broken.Err})
		}
		if err != nil && !errors.Is(err, csv.ErrFieldCount) {
			return errors.Join(send(), err)
		}
		if n < before && !again[n] {
			continue
		}
		line, _ := rows.FieldPos(0)
		claim, bad := claimOf(g.all, columns, fields, err)
		if bad != nil {
			// What comes before it is settled first: progress is a number of rows.
			if err := send(); err != nil {
				return err
			}
			g.refuse(fields, line, gift.BadRequest, bad.Error())
			g.sum.Rows++
			g.done.Rows = n + 1
			continue
		}
		batch = append(batch, row{n, line, slices.Clone(fields), claim})
		if len(batch) == console.MaxClaims {
			if err := send(); err != nil {
				return err
			}
		}
	}
}

// settle claims a batch and notes what came of each row. Rows of which nothing
// final is known stay undone, and the error says why.
func (g *grant) settle(ctx context.Context, batch []row) error {
	results, err := g.send(ctx, batch)
	g.done.Undone = nil
	for i, r := range results {
		switch {
		case r.ClaimID == nil && (r.Code == "" || busy(r.Code)):
			g.done.Undone = append(g.done.Undone, batch[i].n)
		case r.ClaimID == nil:
			g.refuse(batch[i].fields, batch[i].line, r.Code, r.Detail)
		case r.Duplicate:
			g.sum.Duplicates++
		default:
			g.sum.Accepted++
		}
	}
	g.sum.Rows += len(batch) - len(g.done.Undone)
	g.done.Rows = max(g.done.Rows, batch[len(batch)-1].n+1)
	g.refused.Flush()
	// Refused rows are on file before they count as done.
	return errors.Join(err, g.refused.Error(), g.done.write(g.progressFile()))
}

// busy reports whether a row that was answered with the code may be taken later.
func busy(code gift.Code) bool {
	return code == gift.Overloaded || code == gift.Unavailable || code == gift.TooManyRequests
}

// send claims a batch; where the server is busy or its disk full it waits and
// claims those rows again. It gives a result for each row, with an error too: a
// row that was not answered has an empty one.
func (g *grant) send(ctx context.Context, batch []row) ([]console.ClaimResult, error) {
	results := make([]console.ClaimResult, len(batch))
	open := make([]int, len(batch)) // rows that have no final answer
	for i := range open {
		open[i] = i
	}
	for try := 1; ; try++ {
		claims := make([]console.Claim, len(open))
		for i, b := range open {
			claims[i] = batch[b].claim
		}
		var answer console.ClaimsAnswer
		err := g.client.call(ctx, "POST", "/v1/admin/claims", console.ClaimsRequest{Claims: claims}, &answer)
		if refused, ok := errors.AsType[*gift.Error](err); ok && busy(refused.Code) {
			// The whole request was turned away: that is every row of it.
			answer.Results = slices.Repeat([]console.ClaimResult{{Code: refused.Code, Detail: refused.Detail}}, len(claims))
		} else if err != nil {
			return results, err
		}
		if len(answer.Results) != len(claims) {
			return results, fmt.Errorf("the server answered %d of %d claims", len(answer.Results), len(claims))
		}
		var again []int
		for i, r := range answer.Results {
			if results[open[i]] = r; busy(r.Code) {
				again = append(again, open[i])
			}
		}
		if len(again) == 0 {
			return results, nil
		}
		if open = again; try == tries {
			r := results[open[0]]
			return results, &gift.Error{Code: r.Code, Detail: fmt.Sprintf("%s: the server did not take %d of %d rows in %d tries, the first in line %d", r.Detail, len(open), len(batch), tries, batch[open[0]].line)}
		}
		select {
		case <-time.After(g.pause):
		case <-ctx.Done():
			return results, ctx.Err()
		}
	}
}

func (g *grant) refuse(fields []string, line int, code gift.Code, detail string) {
	g.sum.Refused++
	g.done.Refused++
	g.sum.Codes[string(code)]++
	g.refused.Write(append(slices.Clone(fields), strconv.Itoa(line), string(code), detail))
}

func (g *grant) startBar(size int64) {
	if f, ok := g.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) && !g.json {
		g.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(g.err), progressbar.OptionShowBytes(true),
			progressbar.OptionSetDescription("claiming"), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true))
	}
}

func (s grantSummary) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s (%.1f s)\n", s.soFar(), s.ElapsedS)
	if err == nil && s.RefusedFile != "" {
		_, err = fmt.Fprintf(w, "refused rows with their reasons: %s\n", s.RefusedFile)
	}
	return err
}

// soFar reads "1,200 rows: 1,100 accepted, 90 duplicates, 10 refused".
func (s grantSummary) soFar() string {
	text := fmt.Sprintf("%s: %s accepted, %s, %s refused", count(s.Rows, "row"), thousands(int64(s.Accepted)), count(s.Duplicates, "duplicate"), thousands(int64(s.Refused)))
	if s.Undone > 0 {
		text += fmt.Sprintf("; %s not settled", thousands(int64(s.Undone)))
	}
	if s.Skipped > 0 {
		text += fmt.Sprintf("; %s done before", count(s.Skipped, "row"))
	}
	return text
}
