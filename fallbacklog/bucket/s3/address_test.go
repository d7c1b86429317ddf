package s3_test

import (
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"manna/fallbacklog/bucket/s3"
)

func TestAddresses(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "eu-west-9")
	for address, want := range map[string]s3.Address{
		"s3://bucket": {Bucket: "bucket", Endpoint: "s3.amazonaws.com", Region: "eu-west-9"},
		"s3://bucket/a/b/?endpoint=http://127.0.0.1:7070&region=us-east-1&path_style=true": {
			Bucket: "bucket", Prefix: "a/b/", Endpoint: "127.0.0.1:7070", Insecure: true, Region: "us-east-1", Lookup: minio.BucketLookupPath},
		"s3://bucket?endpoint=host:1&disable_https=true&s3ForcePathStyle=true": {Bucket: "bucket", Endpoint: "host:1", Insecure: true, Region: "eu-west-9", Lookup: minio.BucketLookupPath},
		"s3://bucket?endpoint=host&use_path_style=false&profile=p":             {Bucket: "bucket", Endpoint: "host", Region: "eu-west-9", Lookup: minio.BucketLookupDNS, Profile: "p"},
		"s3://bucket?endpoint=https://host/&hostname_immutable=true":           {Bucket: "bucket", Endpoint: "host", Region: "eu-west-9", Lookup: minio.BucketLookupPath},
		"s3://bucket?endpoint=https://host&hostname_immutable=false":           {Bucket: "bucket", Endpoint: "host", Region: "eu-west-9"},
	} {
		if got, err := s3.Parse(address); err != nil || got != want {
			t.Errorf("%s is %+v, %v, want %+v", address, got, err, want)
		}
	}
}

func TestBadAddressesAreRefused(t *testing.T) {
	const secret = "hush"
	for address, want := range map[string]string{
		"gs://bucket":                     "want s3://bucket",
		"s3://":                           "no bucket's name",
		"s3://a":                          "no bucket's name",
		"s3://key:" + secret + "@bucket":  "AWS_ACCESS_KEY_ID",
		"s3://bucket:9000":                "a bucket has no port: write ?endpoint=http://host:9000",
		"s3://bucket/a//b":                "is no key",
		"s3://bucket/../b":                "is no key",
		"s3://bucket#x":                   "#x",
		"s3://bucket?pathstyle=true":      `no parameter "pathstyle": known are endpoint, region, path_style`,
		"s3://bucket?region=a&region=b":   "region needs one value",
		"s3://bucket?region=":             "region needs one value",
		"s3://bucket?path_style=yes":      "path_style is true or false",
		"s3://bucket?disable_https=maybe": "disable_https is true or false",
		"s3://bucket?path_style=true&use_path_style=false":     "opposite",
		"s3://bucket?endpoint=ftp://host":                      "endpoint is http:// or https://",
		"s3://bucket?endpoint=http://host/path":                "endpoint is http:// or https://",
		"s3://bucket?endpoint=http://u:" + secret + "@host":    "endpoint is http:// or https://",
		"s3://bucket?endpoint=https://host&disable_https=true": "take one of them away",
		"s3://%zz" + secret:                                    "does not read as a URL",
	} {
		_, err := s3.New(address, s3.Keys{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
		if err != nil && strings.Contains(strings.TrimPrefix(err.Error(), address), secret) {
			t.Errorf("%s: the error tells the secret: %v", address, err)
		}
	}
}
