package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"manna/console"
	"manna/gift"
)

// grantColumns are the columns that a CSV may have; user is required.
var grantColumns = []string{"user", "campaign", "scene", "stage", "gift", "platform", "target"}

func newGrant(e *env) *cobra.Command {
	g := &grant{env: e}
	cmd := &cobra.Command{
		Use:   "grant FILE.csv",
		Short: "Claim for every user in a CSV file",
		Long: `Claim for every row of a CSV file whose first line names its columns: user, and
where rows differ campaign, scene, stage, gift, platform, target (a JSON object).
What all rows share may be given by flags instead.

Progress is kept in FILE.csv.progress: after an interruption the same command goes
on where it stopped. Rows that were refused are written to FILE.csv.refused.csv
with code and detail. A row that was claimed before counts as a duplicate and
gives nothing a second time. Exit code 1 where rows were refused.`,
		Args: usageArgs(cobra.ExactArgs(1)),
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
	cmd.Flags().BoolVar(&g.restart, "restart", false, "begin with the first row again, whatever was done before")
	return cmd
}

// grant is one bulk claim.
type grant struct {
	*env
	file    string
	all     console.Claim
	restart bool

	client  *client
	refused *csv.Writer
	bar     *progressbar.ProgressBar
	sum     grantSummary
}

type grantSummary struct {
	File        string         `json:"file"`
	Rows        int            `json:"rows"`    // in this run
	Skipped     int            `json:"skipped"` // done by an earlier run
	Accepted    int            `json:"accepted"`
	Duplicates  int            `json:"duplicates"`
	Refused     int            `json:"refused"`
	Codes       map[string]int `json:"codes,omitempty"`
	RefusedFile string         `json:"refused_file,omitempty"`
	ElapsedS    float64        `json:"elapsed_s"`
}

// progress is where an earlier run stopped.
type progress struct {
	Rows int   `json:"rows"` // done
	Size int64 `json:"size"` // of the file then: another file begins anew
}

func (g *grant) run(ctx context.Context) error {
	began := time.Now()
	f, err := os.Open(g.file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if g.client, _, err = g.admin(); err != nil {
		return err
	}
	done := progress{}
	if !g.restart {
		if done, err = readProgress(g.file+".progress", info.Size()); err != nil {
			return err
		}
	}
	counted := &countingReader{r: f}
	rows := csv.NewReader(counted)
	rows.ReuseRecord = true
	head, err := rows.Read()
	if err != nil {
		return fmt.Errorf("%s: the first line names the columns, like user,campaign: %w", g.file, err)
	}
	columns := slices.Clone(head)
	if err := checkColumns(g.file, columns); err != nil {
		return err
	}
	g.sum = grantSummary{File: g.file, Skipped: done.Rows, Codes: map[string]int{}, RefusedFile: g.file + ".refused.csv"}
	mode := os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	if done.Rows > 0 {
		mode = os.O_CREATE | os.O_WRONLY | os.O_APPEND
	}
	out, err := os.OpenFile(g.sum.RefusedFile, mode, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	g.refused = csv.NewWriter(out)
	if done.Rows == 0 {
		g.refused.Write(append(slices.Clone(columns), "line", "code", "detail"))
	}
	g.startBar(info.Size())
	err = g.claimAll(ctx, rows, columns, counted, done, info.Size())
	g.refused.Flush()
	err = errors.Join(err, g.refused.Error(), out.Close())
	if g.bar != nil {
		g.bar.Finish()
		fmt.Fprintln(g.err)
	}
	if err != nil {
		return fmt.Errorf("%w\nafter %d rows; the same command goes on from there", err, g.sum.Skipped+g.sum.Rows)
	}
	os.Remove(g.file + ".progress")
	if g.sum.Refused == 0 && done.Rows == 0 {
		os.Remove(g.sum.RefusedFile)
		g.sum.RefusedFile = ""
	}
	g.sum.ElapsedS = time.Since(began).Seconds()
	if err := g.print(g.sum, g.sum.text); err != nil {
		return err
	}
	if g.sum.Refused > 0 {
		return errFound
	}
	return nil
}

// claimAll sends the rows in batches and notes after each how far it came.
func (g *grant) claimAll(ctx context.Context, rows *csv.Reader, columns []string, counted *countingReader, done progress, size int64) error {
	type row struct {
		line   int
		fields []string
	}
	var batch []row
	var claims []console.Claim
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		results, err := g.send(ctx, claims)
		if err != nil {
			return err
		}
		for i, r := range results {
			switch {
			case r.ClaimID == nil:
				g.refuse(batch[i].fields, batch[i].line, r.Code, r.Detail)
			case r.Duplicate:
				g.sum.Duplicates++
			default:
				g.sum.Accepted++
			}
		}
		g.sum.Rows += len(batch)
		g.refused.Flush()
		batch, claims = batch[:0], claims[:0]
		if g.bar != nil {
			g.bar.Set64(min(counted.n, size))
		}
		return writeProgress(g.file+".progress", progress{Rows: done.Rows + g.sum.Rows, Size: size})
	}
	for n := 0; ; n++ {
		fields, err := rows.Read()
		if err == io.EOF {
			return send()
		}
		line, _ := rows.FieldPos(0)
		if err != nil && !errors.Is(err, csv.ErrFieldCount) {
			return errors.Join(send(), fmt.Errorf("%s: %w", g.file, err))
		}
		if n < done.Rows {
			continue
		}
		claim, bad := g.claim(columns, fields, err)
		if bad != nil {
			// A row that cannot be sent keeps its place in the count of rows done.
			if err := send(); err != nil {
				return err
			}
			g.refuse(fields, line, gift.BadRequest, bad.Error())
			g.sum.Rows++
			continue
		}
		batch, claims = append(batch, row{line, slices.Clone(fields)}), append(claims, claim)
		if len(claims) == console.MaxClaims {
			if err := send(); err != nil {
				return err
			}
		}
	}
}

// send claims a batch; where the server is busy or its disk full it waits and
// tries again, for repeats are harmless.
func (g *grant) send(ctx context.Context, claims []console.Claim) ([]console.ClaimResult, error) {
	const tries = 30
	for try := 1; ; try++ {
		var answer console.ClaimsAnswer
		err := g.client.call(ctx, "POST", "/v1/admin/claims", console.ClaimsRequest{Claims: claims}, &answer)
		if err != nil {
			return nil, err
		}
		if len(answer.Results) != len(claims) {
			return nil, fmt.Errorf("the server answered %d of %d claims", len(answer.Results), len(claims))
		}
		busy := slices.ContainsFunc(answer.Results, func(r console.ClaimResult) bool {
			return r.Code == gift.Overloaded || r.Code == gift.Unavailable || r.Code == gift.TooManyRequests
		})
		if !busy || try == tries {
			return answer.Results, nil
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (g *grant) claim(columns, fields []string, err error) (console.Claim, error) {
	c := g.all
	if err != nil {
		return c, fmt.Errorf("has %d fields, the first line names %d", len(fields), len(columns))
	}
	for i, column := range columns {
		v := strings.TrimSpace(fields[i])
		if v == "" {
			continue
		}
		switch column {
		case "user":
			c.User = v
		case "campaign":
			c.Campaign = v
		case "scene":
			c.Scene = v
		case "stage":
			c.Stage = v
		case "gift":
			c.Gift = v
		case "platform":
			c.Platform = v
		case "target":
			if !json.Valid([]byte(v)) {
				return c, fmt.Errorf("target is no JSON")
			}
			c.Target = json.RawMessage(v)
		}
	}
	if c.User == "" {
		return c, errors.New("user is empty")
	}
	return c, nil
}

func (g *grant) refuse(fields []string, line int, code gift.Code, detail string) {
	g.sum.Refused++
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
	_, err := fmt.Fprintf(w, "%d rows: %d accepted, %d duplicates, %d refused", s.Rows, s.Accepted, s.Duplicates, s.Refused)
	if s.Skipped > 0 {
		fmt.Fprintf(w, "; %d rows were done before", s.Skipped)
	}
	fmt.Fprintf(w, " (%.1f s)\n", s.ElapsedS)
	if s.Refused > 0 {
		fmt.Fprintf(w, "refused rows with their reasons: %s\n", s.RefusedFile)
	}
	return err
}

func checkColumns(file string, columns []string) error {
	for i, c := range columns {
		columns[i] = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(c, "\ufeff")))
		if !slices.Contains(grantColumns, columns[i]) {
			return fmt.Errorf("%s:1: column %q is unknown; there are: %s", file, c, strings.Join(grantColumns, ", "))
		}
		if slices.Contains(columns[:i], columns[i]) {
			return fmt.Errorf("%s:1: column %q stands there twice", file, c)
		}
	}
	if !slices.Contains(columns, "user") {
		return fmt.Errorf("%s:1: there is no column user; the first line names the columns, like user,campaign", file)
	}
	return nil
}

func readProgress(path string, size int64) (p progress, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return p, fmt.Errorf("%s: %w: remove it, or use --restart", path, err)
	}
	if p.Size != size {
		return p, fmt.Errorf("%s belongs to a file of %d bytes, this one has %d: use --restart to begin anew", path, p.Size, size)
	}
	return p, nil
}

func writeProgress(path string, p progress) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	// Losing it only means that claims are repeated, which gives nothing twice.
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
