package s3

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"manna/fallbacklog/bucket"
)

// Address says where a bucket is.
type Address struct {
	Bucket   string
	Prefix   string // folder of all keys: "", or ends with a slash
	Endpoint string // host, or host:port
	Insecure bool   // http
	Region   string // "" to ask the server
	Lookup   minio.BucketLookupType
	Profile  string // of the shared credentials file
}

const amazon = "s3.amazonaws.com"

// parameters of an address.
var parameters = []string{"endpoint", "region", "path_style", "use_path_style", "s3ForcePathStyle", "hostname_immutable", "disable_https", "profile"}

// Parse reads an address; see the package comment. It asks nobody.
func Parse(address string) (Address, error) {
	u, err := url.Parse(address)
	if err != nil {
		return Address{}, fmt.Errorf("the address of the bucket does not read as a URL: %w", unwrapped(err))
	}
	shown := u.Redacted()
	fail := func(format string, args ...any) (Address, error) {
		return Address{}, fmt.Errorf("%s: "+format, append([]any{shown}, args...)...)
	}
	switch {
	case u.Scheme != "s3":
		return fail("want s3://bucket")
	case u.User != nil:
		return fail("credentials do not belong into the address: give them as access_key and secret_key, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	case u.Port() != "":
		return fail("a bucket has no port: write ?endpoint=http://host:%s", u.Port())
	case u.Fragment != "":
		return fail("what is #%s for? Take it away", u.Fragment)
	}
	a := Address{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Endpoint: amazon}
	if err := s3utils.CheckValidBucketName(a.Bucket); err != nil {
		return fail("%q is no bucket's name: %w", a.Bucket, err)
	}
	if a.Prefix != "" {
		a.Prefix += "/"
		if err := bucket.CheckFolder(a.Prefix); err != nil {
			return fail("%w", err)
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("%w", err)
	}
	for name, values := range query {
		if !slices.Contains(parameters, name) {
			return fail("there is no parameter %q: known are %s", name, strings.Join(parameters, ", "))
		}
		if len(values) > 1 || values[0] == "" {
			return fail("%s needs one value", name)
		}
	}
	if err := a.take(query); err != nil {
		return fail("%w", err)
	}
	return a, nil
}

func (a *Address) take(query url.Values) error {
	var err error
	flag := func(name string) (on, given bool) {
		if !query.Has(name) || err != nil {
			return false, false
		}
		on, failed := strconv.ParseBool(query.Get(name))
		if failed != nil {
			err = fmt.Errorf("%s is true or false, not %q", name, query.Get(name))
		}
		return on, true
	}
	a.Insecure, _ = flag("disable_https")
	for _, name := range []string{"path_style", "use_path_style", "s3ForcePathStyle", "hostname_immutable"} {
		on, given := flag(name)
		switch {
		case !given || name == "hostname_immutable" && !on:
		case on && a.Lookup == minio.BucketLookupDNS || !on && a.Lookup == minio.BucketLookupPath:
			return fmt.Errorf("%s says the opposite of another parameter", name)
		case on:
			a.Lookup = minio.BucketLookupPath
		default:
			a.Lookup = minio.BucketLookupDNS
		}
	}
	if err != nil {
		return err
	}
	a.Profile, a.Region = query.Get("profile"), query.Get("region")
	if a.Region == "" {
		a.Region = os.Getenv("AWS_REGION")
	}
	if a.Region == "" {
		a.Region = os.Getenv("AWS_DEFAULT_REGION")
	}
	return a.reach(query.Get("endpoint"))
}

// reach reads the endpoint: host, host:port, or a URL of these alone.
func (a *Address) reach(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	if !strings.Contains(endpoint, "://") {
		scheme := "https://"
		if a.Insecure {
			scheme = "http://"
		}
		endpoint = scheme + endpoint
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return fmt.Errorf("endpoint: %w", unwrapped(err))
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return fmt.Errorf("endpoint is http:// or https:// and a host, like http://127.0.0.1:7070, not %q", u.Redacted())
	case u.Scheme == "https" && a.Insecure:
		return fmt.Errorf("disable_https, and an endpoint of https: take one of them away")
	}
	a.Endpoint, a.Insecure = u.Host, u.Scheme == "http"
	return nil
}

// String is the address without what credentials and requests are made with.
func (a Address) String() string {
	s := "s3://" + a.Bucket + "/" + strings.TrimSuffix(a.Prefix, "/")
	if a.Endpoint != amazon {
		s += " at " + a.Endpoint
	}
	return s
}

// unwrapped takes the text that was parsed out of an error: it may be a secret.
func unwrapped(err error) error {
	if e, ok := err.(*url.Error); ok {
		return e.Err
	}
	return err
}
