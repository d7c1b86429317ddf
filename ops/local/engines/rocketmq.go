package engines

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// cluster is the broker's cluster, and the topic under which the name server
// lists the cluster's brokers.
const cluster = "DefaultCluster"

func nameServer() server {
	return server{
		name:     NameServer,
		programs: javaPrograms(),
		install:  installRocketMQ,
		prepare: func(_ context.Context, d *Dir) (command, error) {
			conf := d.file("data", NameServer, "namesrv.conf")
			err := writeProperties(conf, [][2]string{{"listenPort", fmt.Sprint(d.ports[NameServer])}})
			if err != nil {
				return command{}, err
			}
			return javaCommand(d, NameServer, "namesrv", []string{"-Xms64m", "-Xmx128m"},
				"org.apache.rocketmq.namesrv.NamesrvStartup", "-c", conf)
		},
		probe: func(ctx context.Context, d *Dir) error {
			// Without a broker it has no route, and says so: that is an answer.
			_, err := askRemoting(ctx, d.Addr(NameServer), requestRoute, map[string]string{"topic": cluster})
			return err
		},
		quit: syscall.SIGTERM,
	}
}

func broker() server {
	return server{
		name:     Broker,
		needs:    NameServer,
		programs: javaPrograms(),
		install:  installRocketMQ,
		prepare: func(_ context.Context, d *Dir) (command, error) {
			conf := d.file("data", Broker, "broker.conf")
			if err := writeProperties(conf, brokerSettings(d)); err != nil {
				return command{}, err
			}
			return javaCommand(d, Broker, "broker", []string{"-Xms256m", "-Xmx512m", "-XX:MaxDirectMemorySize=512m"},
				"org.apache.rocketmq.broker.BrokerStartup", "-c", conf)
		},
		probe: probeBroker,
		quit:  syscall.SIGTERM,
	}
}

func javaPrograms() []program {
	return []program{
		{name: "java", pkg: "default-jre-headless", there: onPath("java")},
		{name: "mvn", pkg: "maven", there: func(d *Dir) bool { return haveJars(d) || onPath("mvn")(d) }},
	}
}

// javaCommand runs a class of RocketMQ. Its home is its data directory, which is
// where it puts its logs, the keys it makes at each start, and all whose place no
// setting names.
func javaCommand(d *Dir, name, logback string, heap []string, class string, args ...string) (command, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return command{}, err
	}
	home := d.file("data", name)
	tmp := d.file("data", name, "tmp")
	if err := os.RemoveAll(tmp); err != nil {
		return command{}, err
	}
	return command{path: java, args: slices.Concat(heap, []string{
		"-XX:-UsePerfData",
		"-Djava.io.tmpdir=" + tmp,
		"-Drocketmq.home.dir=" + home,
		"-Duser.home=" + home,
		"-Drmq.logback.configurationFile=rmq." + logback + ".logback.xml",
		"-cp", d.rocketmqJars() + "/*",
		class,
	}, args)}, os.Mkdir(tmp, 0o755)
}

// brokerSettings are those of a broker that takes little room: the usual files of
// its store are of a gigabyte each.
func brokerSettings(d *Dir) [][2]string {
	store := d.file("data", Broker, "store")
	return [][2]string{
		{"brokerClusterName", cluster},
		{"brokerName", "broker-a"},
		{"brokerId", "0"},
		{"brokerIP1", "127.0.0.1"},
		{"listenPort", fmt.Sprint(d.ports[Broker])},
		{"namesrvAddr", d.Addr(NameServer)},
		{"autoCreateTopicEnable", "false"},
		{"registerNameServerPeriod", "10000"}, // the least: a name server that is new hears of it soon
		{"storePathRootDir", store},
		{"storePathCommitLog", store + "/commitlog"},
		{"mappedFileSizeCommitLog", "67108864"},
		{"mappedFileSizeConsumeQueue", "600000"},
		{"mappedFileSizeTimerLog", "16777216"},
		{"maxHashSlotNum", "50000"},
		{"maxIndexNum", "200000"},
		{"flushDiskType", "ASYNC_FLUSH"},
		{"diskMaxUsedSpaceRatio", "95"},
		{"timerWheelEnable", "true"},
	}
}

// writeProperties writes a properties file into a directory, which it makes.
func writeProperties(path string, settings [][2]string) error {
	if err := os.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
		return err
	}
	var b strings.Builder
	for _, s := range settings {
		fmt.Fprintf(&b, "%s=%s\n", s[0], s[1])
	}
	return replaceFile(path, []byte(b.String()), 0o644)
}

// probeBroker asks the broker itself, and then the name server whether the broker
// has registered with it: only then can a topic be made and be found.
func probeBroker(ctx context.Context, d *Dir) error {
	info, err := askRemoting(ctx, d.Addr(Broker), requestBrokerInfo, nil)
	if err != nil {
		return err
	}
	if info.Code != 0 {
		return fmt.Errorf("the broker answers %d %s", info.Code, info.Remark)
	}
	answer, err := askRemoting(ctx, d.Addr(NameServer), requestRoute, map[string]string{"topic": cluster, "acceptStandardJsonOnly": "true"})
	if err != nil {
		return fmt.Errorf("the name server: %w", err)
	}
	if answer.Code != 0 {
		return fmt.Errorf("not registered with the name server: %d %s", answer.Code, answer.Remark)
	}
	var route struct {
		Brokers []struct {
			Addrs map[string]string `json:"brokerAddrs"`
		} `json:"brokerDatas"`
	}
	if err := json.Unmarshal(answer.body, &route); err != nil {
		return fmt.Errorf("the name server's route %q: %w", answer.body, err)
	}
	for _, b := range route.Brokers {
		if b.Addrs["0"] == d.Addr(Broker) {
			return nil
		}
	}
	return fmt.Errorf("not registered with the name server, which knows %+v", route.Brokers)
}
