package engines

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// A program is one that a package of Debian provides.
type program struct {
	name  string
	pkg   string
	there func(*Dir) bool
}

func onPath(name string) func(*Dir) bool {
	return func(*Dir) bool {
		_, err := exec.LookPath(name)
		return err == nil
	}
}

// installPrograms sees to it that the programs of all the servers are there.
func (d *Dir) installPrograms(ctx context.Context, all []server) error {
	var names, packages []string
	for _, s := range all {
		for _, p := range s.programs {
			if !p.there(d) && !slices.Contains(packages, p.pkg) {
				names, packages = append(names, p.name), append(packages, p.pkg)
			}
		}
	}
	if len(packages) == 0 {
		return nil
	}
	missing := strings.Join(names, ", ")
	command := "apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("%s missing, and no apt-get to install it with: install what Debian calls %s and try again", missing, strings.Join(packages, " "))
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s missing. Run: sudo %s", missing, command)
	}
	d.say("", "installing %s: %s", missing, command)
	// Another apt-get on the machine is waited for.
	const wait = "-o DPkg::Lock::Timeout=300"
	script := "apt-get -q " + wait + " update && " + strings.Replace(command, "apt-get", "apt-get -q "+wait, 1)
	return d.run(ctx, "apt", []string{"DEBIAN_FRONTEND=noninteractive"}, "/bin/sh", "-c", script)
}

// run runs a program to its end and keeps what it prints in the log of that name.
func (d *Dir) run(ctx context.Context, log string, env []string, name string, args ...string) error {
	out, err := os.Create(d.logFile(log))
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = d.path
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return d.withTail(log, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err))
	}
	return nil
}

// withTail adds the last lines of a log to an error.
func (d *Dir) withTail(log string, err error) error {
	const most = 15
	text, readErr := os.ReadFile(d.logFile(log))
	if readErr != nil {
		return fmt.Errorf("%w (and its log: %v)", err, readErr)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) > most {
		lines = lines[len(lines)-most:]
	}
	return fmt.Errorf("%w\nthe end of %s:\n    %s", err, d.logFile(log), strings.Join(lines, "\n    "))
}

// rocketmqVersion is the one in rocketmq.pom.xml.
const rocketmqVersion = "5.3.3"

//go:embed rocketmq.pom.xml
var rocketmqPOM []byte

func (d *Dir) rocketmqJars() string { return d.file("lib", "rocketmq-"+rocketmqVersion) }

func haveJars(d *Dir) bool {
	_, err := os.Stat(d.rocketmqJars())
	return err == nil
}

// installRocketMQ gets the jars of the name server and the broker.
func installRocketMQ(ctx context.Context, d *Dir) error {
	d.fetching.Lock()
	defer d.fetching.Unlock()
	if haveJars(d) {
		return nil
	}
	d.say(Broker, "getting RocketMQ %s from Maven Central", rocketmqVersion)
	pom := d.file("lib", "rocketmq.pom.xml")
	if err := os.WriteFile(pom, rocketmqPOM, 0o644); err != nil {
		return err
	}
	fresh := d.rocketmqJars() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := d.run(ctx, "maven", nil, "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+fresh); err != nil {
		return err
	}
	return os.Rename(fresh, d.rocketmqJars())
}

const versitygwVersion = "v1.8.0"

func (d *Dir) versitygw() string { return d.file("bin", "versitygw-"+versitygwVersion, "versitygw") }

// installVersityGW builds the S3 server.
func installVersityGW(ctx context.Context, d *Dir) error {
	if _, err := os.Stat(d.versitygw()); err == nil {
		return nil
	}
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("go missing: install Go (https://go.dev/dl) and have its bin directory in PATH")
	}
	d.say(S3, "building versitygw %s, which takes about a minute the first time", versitygwVersion)
	env := []string{
		"GOBIN=" + filepath.Dir(d.versitygw()),
		"GOFLAGS=", "GOOS=" + runtime.GOOS, "GOARCH=" + runtime.GOARCH,
	}
	return d.run(ctx, "versitygw-build", env, "go", "install", "github.com/versity/versitygw/cmd/versitygw@"+versitygwVersion)
}
