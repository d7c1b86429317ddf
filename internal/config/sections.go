package config

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// enginesStub is what a configuration needs beside its engines.
const enginesStub = `
partners: {none: {url: "http://127.0.0.1:1", rate: 1/s, idempotent: true}}
campaigns: {none: {opens: 2027-01-01T00:00:00Z, closes: 2027-01-02T00:00:00Z, gifts: {none: {stock: 1, items: [{item: none, partner: none}]}}}}
`

// LoadEngines reads a file that has the sections queue, guard, ledger and archive of
// a cluster and no more, as ops/local/up writes it. The other sections of what it
// gives mean nothing.
func LoadEngines(file string) (*Config, error) {
	c, _, err := ReadEngines(file)
	return c, err
}

// ReadEngines is LoadEngines that also gives the file's text.
func ReadEngines(file string) (c *Config, text string, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, "", err
	}
	text = strings.TrimSuffix(string(b), "\n") + "\n"
	if c, err = Parse(file, []byte(text+enginesStub), os.LookupEnv); err != nil {
		return nil, "", err
	}
	if !c.Clustered() || c.Archive.URL == "" {
		return nil, "", fmt.Errorf("%s: a cluster needs all of queue, guard, ledger and archive on servers, as ops/local/up writes them", file)
	}
	return c, text, nil
}

// EngineSections writes those sections with a name of its own in all of them: as the
// group, the prefix, the schema, and a folder of the bucket. Who is configured with
// them touches nothing of what is on the servers already.
func (c *Config) EngineSections(name string) string {
	address, rest, _ := strings.Cut(c.Archive.URL, "?")
	if rest != "" {
		rest = "?" + rest
	}
	var b strings.Builder
	fmt.Fprintf(&b, "queue: {engine: rocketmq, nameservers: [%s], group: %s, queues: %d", quoteAll(c.Queue.Nameservers), name, c.Queue.Queues)
	if c.Queue.Cluster != "" {
		fmt.Fprintf(&b, ", cluster: %q", c.Queue.Cluster)
	}
	b.WriteString("}\n")
	fmt.Fprintf(&b, "guard: {engine: memcached, servers: [%s], prefix: %q, standby: %v}\n", quoteAll(c.Guard.Servers), name+":", c.Guard.Standby)
	fmt.Fprintf(&b, "ledger: {engine: postgres, dsn: %q, schema: %s}\n", string(c.Ledger.DSN), name)
	fmt.Fprintf(&b, "archive: {url: %q", strings.TrimSuffix(address, "/")+"/"+name+rest)
	if c.Archive.AccessKey != "" {
		fmt.Fprintf(&b, ", access_key: %q, secret_key: %q", string(c.Archive.AccessKey), string(c.Archive.SecretKey))
	}
	b.WriteString("}\n")
	return b.String()
}

func quoteAll(list []string) string {
	var q []string
	for _, s := range list {
		q = append(q, strconv.Quote(s))
	}
	return strings.Join(q, ", ")
}
