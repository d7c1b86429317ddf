package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"manna/console"
)

// grantColumns are the columns that a CSV may have; user is required.
var grantColumns = []string{"user", "campaign", "scene", "stage", "gift", "platform", "target"}

// row is a line of the file on its way to the server.
type row struct {
	n      int // from 0, the first line of the file not counted
	line   int
	fields []string
	claim  console.Claim
}

// readColumns reads the first line.
func readColumns(file string, rows *csv.Reader) ([]string, error) {
	head, err := rows.Read()
	if err == io.EOF {
		err = errors.New("the file is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: the first line names the columns, like user,campaign: %w", file, err)
	}
	columns := slices.Clone(head)
	for i, c := range columns {
		columns[i] = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(c, "\ufeff")))
		if !slices.Contains(grantColumns, columns[i]) {
			return nil, placed{file, 1, fmt.Errorf("column %q is unknown; there are: %s", c, strings.Join(grantColumns, ", "))}
		}
		if slices.Contains(columns[:i], columns[i]) {
			return nil, placed{file, 1, fmt.Errorf("column %q stands there twice", c)}
		}
	}
	if !slices.Contains(columns, "user") {
		return nil, placed{file, 1, errors.New("there is no column user; the first line names the columns, like user,campaign")}
	}
	return columns, nil
}

// claimOf makes the claim of one row. err is what the CSV reader said of it; common
// is what the row has where it says nothing.
func claimOf(common console.Claim, columns, fields []string, err error) (console.Claim, error) {
	c := common
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
				return c, errors.New("target is no JSON")
			}
			c.Target = json.RawMessage(v)
		}
	}
	if c.User == "" {
		return c, errors.New("user is empty")
	}
	return c, nil
}

// countingReader counts the bytes that were read.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
