package verify

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// project reads a compose file as docker compose does: its schema, what it extends,
// and what is named and not there.
func project(t *testing.T, file string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{file}, cli.WithDiscardEnvFile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return p
}

// roles of the nodes of cluster.yaml, by service.
var roles = map[string]string{
	"front-1": "front", "front-2": "front", "lanes-1": "lanes", "lanes-2": "lanes", "lanes-3": "lanes", "reconcile-1": "reconcile",
}

func TestComposeCluster(t *testing.T) {
	p := project(t, "../compose/cluster.yaml")
	for _, name := range []string{"nameserver", "broker", "memcached", "postgres", "s3", "midas", "juno", "door"} {
		if _, err := p.GetService(name); err != nil {
			t.Error(err)
		}
	}
	names, volumes := make(map[string]bool), make(map[string]bool)
	for name, role := range roles {
		s, err := p.GetService(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := []string{"serve", "--role", role}; !slices.Equal(s.Command, want) {
			t.Errorf("%s runs %q, want %q", name, s.Command, want)
		}
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || s.User != "" {
			t.Errorf("%s: read_only %v, cap_drop %v, user %q: it has more rights than it needs", name, s.ReadOnly, s.CapDrop, s.User)
		}
		if grace := time.Duration(*s.StopGracePeriod); grace < shutdown(t, "../compose/manna.yaml")+5*time.Second {
			t.Errorf("%s is killed after %s, before it has stopped", name, grace)
		}
		if len(s.Volumes) != 1 || s.Volumes[0].Target != "/var/lib/manna" || s.Volumes[0].Type != types.VolumeTypeVolume || volumes[s.Volumes[0].Source] {
			t.Errorf("%s has the volumes %v, want one of its own at /var/lib/manna", name, s.Volumes)
		} else {
			volumes[s.Volumes[0].Source] = true
		}
		if len(s.Configs) != 1 || s.Configs[0].Target != "/etc/manna/manna.yaml" || p.Configs[s.Configs[0].Source].File == "" {
			t.Errorf("%s has the configs %v", name, s.Configs)
		}
		node := s.Environment["MANNA_NODE"]
		if node == nil || *node != name || names[*node] {
			t.Errorf("%s has no name of its own", name)
		}
		names[name] = true
		given := make(map[string]bool)
		for key, value := range s.Environment {
			given[key] = value != nil
		}
		complete(t, name, "../compose/manna.yaml", given)
	}
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s publishes %s on %q: the passwords are in the file", name, port.Published, port.HostIP)
			}
		}
		if slices.Contains([]string{"nameserver", "broker", "memcached", "postgres", "s3"}, name) && len(s.Ports) > 0 {
			t.Errorf("%s publishes ports, and would be in the way of engines.yaml", name)
		}
	}
	broker, _ := p.GetService("broker")
	if len(broker.Configs) != 1 || !strings.HasSuffix(p.Configs[broker.Configs[0].Source].File, "broker-inside.conf") {
		t.Errorf("the broker has the configs %v: it would tell the nodes an address of the host's", broker.Configs)
	}
}

// Compose labels an image with the service that it builds it for: of two that build one
// name the last would have it, and the other's container would be begun anew.
func TestComposeBuildsAnImageOnce(t *testing.T) {
	p := project(t, "../compose/cluster.yaml")
	builders := make(map[string][]string)
	for name, s := range p.Services {
		if s.Build != nil {
			builders[s.Image] = append(builders[s.Image], name)
		}
	}
	for _, name := range append(slices.Collect(maps.Keys(roles)), "midas", "juno") {
		s, err := p.GetService(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if by := builders[s.Image]; len(by) != 1 {
			t.Errorf("%s runs %s, which %q build, want one service", name, s.Image, by)
		}
	}
}

func TestComposeEngines(t *testing.T) {
	p := project(t, "../compose/engines.yaml")
	for _, name := range []string{"nameserver", "broker", "memcached", "postgres", "s3"} {
		s, err := p.GetService(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.HealthCheck == nil || len(s.Ports) == 0 {
			t.Errorf("%s has no health check, or no port", name)
		}
	}
}

// Partners have the addresses and the rates that the configuration has.
func TestComposePartners(t *testing.T) {
	p := project(t, "../compose/cluster.yaml")
	text := string(file(t, "../compose/manna.yaml"))
	for _, name := range []string{"midas", "juno"} {
		s, err := p.GetService(name)
		if err != nil {
			t.Fatal(err)
		}
		rate := regexp.MustCompile(`(?s)\n  ` + name + `:.*?\n    rate: (\S+)`).FindStringSubmatch(text)
		if rate == nil || !slices.Contains(s.Command, rate[1]) || !slices.Contains(s.Command, ":9090") || !strings.Contains(text, "http://"+name+":9090/grant") {
			t.Errorf("%s runs %q, the configuration has the rate %q", name, s.Command, rate)
		}
	}
}

var variable = regexp.MustCompile(`\$\{(\w+)\}`)

// complete sees that everything is given that a configuration takes from its
// environment.
func complete(t *testing.T, who, path string, given map[string]bool) {
	t.Helper()
	for line := range strings.Lines(string(file(t, path))) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, v := range variable.FindAllStringSubmatch(line, -1) {
			if !given[v[1]] {
				t.Errorf("%s is not given %s, which %s names", who, v[1], path)
			}
		}
	}
}

func shutdown(t *testing.T, path string) time.Duration {
	t.Helper()
	found := regexp.MustCompile(`(?m)^shutdown: (\S+)`).FindSubmatch(file(t, path))
	if found == nil {
		t.Fatalf("%s says nothing of shutdown", path)
	}
	d, err := time.ParseDuration(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
