package engines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// writeSettings writes engines.yaml and env, for the servers that were brought up, whether
// they answer just now or not: a broker does not while its name server has only just been
// started again. With none there are no such files.
func (d *Dir) writeSettings(ctx context.Context) error {
	all, err := d.Status(ctx)
	if err != nil {
		return err
	}
	var up []string
	for _, st := range all {
		if st.State != StateDown {
			up = append(up, st.Name)
		}
	}
	if len(up) == 0 {
		return errors.Join(removed(d.file("engines.yaml")), removed(d.file("env")))
	}
	if err := replaceFile(d.file("engines.yaml"), []byte(d.settings(up)), 0o644); err != nil {
		return err
	}
	env := fmt.Sprintf("export AWS_ACCESS_KEY_ID=%s\nexport AWS_SECRET_ACCESS_KEY=%s\nexport MANNA_DSN='%s'\n", AccessKey, SecretKey, d.DSN())
	return replaceFile(d.file("env"), []byte(env), 0o644)
}

func removed(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// settings returns the sections of manna.yaml that use the servers that are up.
func (d *Dir) settings(up []string) string {
	section := map[string]string{
		Broker:    fmt.Sprintf("queue: {engine: rocketmq, nameservers: [%s], group: manna}\n", d.Addr(NameServer)),
		Memcached: fmt.Sprintf("guard: {engine: memcached, servers: [%s]}\n", d.Addr(Memcached)),
		Postgres:  fmt.Sprintf("ledger: {engine: postgres, dsn: %q}\n", d.DSN()),
		S3:        fmt.Sprintf("archive: {url: %q, access_key: %s, secret_key: %s}\n", d.BucketURL(), AccessKey, SecretKey),
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# The servers of %s, as sections of manna.yaml.\n", d.path)
	for _, name := range up {
		b.WriteString(section[name])
	}
	return b.String()
}
