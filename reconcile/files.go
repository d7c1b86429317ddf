package reconcile

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"manna/internal/disk"
)

// Endings of a report's files. The JSON file gets its name last: where it is
// there, the others are, and are no older.
const (
	jsonEnding  = ".json"
	linesEnding = ".ndjson"
	textEnding  = ".txt"
	tempEnding  = ".tmp"
)

// ErrNoReport: no run has left a report of this name.
var ErrNoReport = errors.New("no such report")

// reportFiles are the files of one report while they are being written.
type reportFiles struct {
	disk  disk.Disk
	dir   string
	base  string // path without the ending
	lines *bufio.Writer
	file  *appender // under lines
	open  bool
}

// appender writes a file from its beginning to its end.
type appender struct {
	file disk.File
	end  int64
}

func (a *appender) Write(p []byte) (int, error) {
	n, err := a.file.WriteAt(p, a.end)
	a.end += int64(n)
	return n, err
}

// createReport begins the files of a run's report, under passing names.
func createReport(d disk.Disk, dir, run string) (*reportFiles, error) {
	f := &reportFiles{disk: d, dir: dir, base: filepath.Join(dir, run)}
	file, err := f.create(linesEnding)
	if err != nil {
		return nil, err
	}
	f.file, f.open = file, true
	f.lines = bufio.NewWriterSize(file, 64<<10)
	return f, nil
}

func (f *reportFiles) create(ending string) (*appender, error) {
	path := f.base + ending + tempEnding
	if err := f.disk.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := f.disk.Create(path)
	if err != nil {
		return nil, err
	}
	return &appender{file: file}, nil
}

// commit writes the report beside its lines and gives all files their names.
func (f *reportFiles) commit(report *Report) error {
	err := f.lines.Flush()
	if err == nil {
		err = f.file.file.Sync()
	}
	f.open = false
	if err = errors.Join(err, f.file.file.Close()); err != nil {
		return err
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil {
		return err
	}
	if err := f.write(textEnding, []byte(text.String())); err != nil {
		return err
	}
	document, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := f.write(jsonEnding, append(document, '\n')); err != nil {
		return err
	}
	if err := f.name(linesEnding, textEnding); err != nil {
		return err
	}
	// Commit point of the report.
	return f.name(jsonEnding)
}

// name gives files their names for good.
func (f *reportFiles) name(endings ...string) error {
	for _, ending := range endings {
		if err := f.disk.Rename(f.base+ending+tempEnding, f.base+ending); err != nil {
			return err
		}
	}
	return f.disk.SyncDir(f.dir)
}

func (f *reportFiles) write(ending string, b []byte) error {
	to, err := f.create(ending)
	if err != nil {
		return err
	}
	_, err = to.Write(b)
	if err == nil {
		err = to.file.Sync()
	}
	return errors.Join(err, to.file.Close())
}

// abandon lets go of files that were not committed. What is left of them is
// removed by the next run of this name, or by New.
func (f *reportFiles) abandon() {
	if f.open {
		f.open = false
		f.file.file.Close()
	}
}

// cleanReports makes the directory and removes what interrupted runs left.
func cleanReports(d disk.Disk, dir string) error {
	if err := d.MkdirAll(dir); err != nil {
		return err
	}
	names, err := d.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, tempEnding) {
			if err := d.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ListReports gives the names of the runs that have a report in dir, the latest
// slot first.
func ListReports(d disk.Disk, dir string) ([]string, error) {
	names, err := d.List(dir)
	if err != nil {
		return nil, err
	}
	var runs []string
	for _, name := range names {
		if run, ok := strings.CutSuffix(name, jsonEnding); ok {
			runs = append(runs, run)
		}
	}
	slices.Reverse(runs)
	return runs, nil
}

// ReadReport reads a run's report. It fails with ErrNoReport.
func ReadReport(d disk.Disk, dir, run string) (*Report, error) {
	if run != filepath.Base(run) {
		return nil, fmt.Errorf("%q: %w", run, ErrNoReport)
	}
	f, err := d.OpenRead(filepath.Join(dir, run+jsonEnding))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q: %w", run, ErrNoReport)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	report := new(Report)
	if err := json.Unmarshal(b, report); err != nil {
		return nil, fmt.Errorf("report %s: %w", run, err)
	}
	return report, nil
}
