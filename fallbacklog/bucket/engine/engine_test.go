package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"manna/fallbacklog/bucket"
	"manna/fallbacklog/bucket/engine"
	"manna/fallbacklog/bucket/s3"
)

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "archive")
	b, err := engine.Open(t.Context(), "file://"+dir, s3.Keys{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Put(t.Context(), "a/b", bucket.Bytes([]byte("x"))), b.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "a", "b")); err != nil || string(got) != "x" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if _, err := engine.Open(t.Context(), "file://"+filepath.Join(dir, "a", "b"), s3.Keys{}); err == nil {
		t.Error("a file was opened as a bucket")
	}
}

func TestNewTouchesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "archive")
	for _, address := range []string{"file://" + dir, "s3://bucket/prefix?endpoint=http://127.0.0.1:1&region=here"} {
		b, err := engine.New(address, s3.Keys{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}

func TestOtherAddressesAreRefused(t *testing.T) {
	for address, want := range map[string]string{
		"":                          "want file:///a/directory or s3://a-bucket",
		"/var/archive":              "want file:///a/directory or s3://a-bucket",
		"file://host/archive":       "want file:/// and an absolute path",
		"file:archive":              "want file:/// and an absolute path",
		"file:///":                  "want file:/// and an absolute path",
		"file:///a?create_dir=true": "want file:/// and an absolute path",
		"gs://bucket":               "s3://bucket?endpoint=https://storage.googleapis.com",
		"azblob://bucket":           "no Azure Blob Storage",
		"s3://bucket?x=1":           `no parameter "x"`,
		"%zz":                       "does not read as a URL",
	} {
		if _, err := engine.New(address, s3.Keys{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
}
