package verify

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func TestOverlays(t *testing.T) {
	for overlay, replicas := range map[string]map[string]int32{
		"trial":      {"front": 2, "lanes": 3, "reconcile": 1},
		"production": {"front": 3, "lanes": 3, "reconcile": 2},
	} {
		t.Run(overlay, func(t *testing.T) {
			dir := "../kubernetes/" + overlay
			m := render(t, filesys.MakeFsOnDisk(), dir)
			if len(m.sets) != len(replicas) {
				t.Errorf("it has the StatefulSets %v", slices.Collect(maps.Keys(m.sets)))
			}
			for role, want := range replicas {
				set := m.sets["manna-"+role]
				if set == nil {
					t.Fatalf("there is no StatefulSet manna-%s", role)
				}
				if set.Spec.Replicas == nil || *set.Spec.Replicas != want {
					t.Errorf("manna-%s has %v replicas, want %d", role, set.Spec.Replicas, want)
				}
				m.checkNode(t, role, set, dir)
			}
			m.checkServices(t)
			m.checkSelectors(t)
			for name, d := range m.deployments {
				checkReferences(t, m, name, &d.Spec.Template.Spec)
			}
		})
	}
}

func (m *manifests) checkNode(t *testing.T, role string, set *apps.StatefulSet, dir string) {
	t.Helper()
	name, pod := set.Name, &set.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		t.Fatalf("%s has %d containers", name, len(pod.Containers))
	}
	c := &pod.Containers[0]
	if want := []string{"serve", "--json", "--role", role}; !slices.Equal(c.Args, want) {
		t.Errorf("%s runs %q, want %q", name, c.Args, want)
	}
	if !strings.Contains(c.Image, ":") {
		t.Errorf("%s has the image %s, of no version", name, c.Image)
	}
	checkReferences(t, m, name, pod)
	checkRights(t, name, pod)
	checkProbes(t, name, c)
	checkVolumes(t, name, set)
	checkResources(t, name, c)
	if public := slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == "public" && p.ContainerPort == 8080 }); public != (role == "front") {
		t.Errorf("%s: public port: %v", name, public)
	}

	// It has time to stop: the proxies first, then the node within its bound.
	if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.Sleep == nil {
		t.Fatalf("%s takes claims' connections away before proxies know", name)
	}
	pause := time.Duration(c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	if least := pause + shutdown(t, dir+"/manna.yaml") + 10*time.Second; grace < least {
		t.Errorf("%s is killed after %s, want at least %s", name, grace, least)
	}
	if set.Spec.UpdateStrategy.Type != apps.RollingUpdateStatefulSetStrategyType || set.Spec.PodManagementPolicy != apps.ParallelPodManagement {
		t.Errorf("%s is updated by %s, started %s", name, set.Spec.UpdateStrategy.Type, set.Spec.PodManagementPolicy)
	}

	// Everything is given that the configuration names.
	given := make(map[string]bool)
	for _, e := range c.Env {
		given[e.Name] = e.Value != "" || e.ValueFrom != nil
		if e.Name == "MANNA_NODE" && (e.ValueFrom == nil || e.ValueFrom.FieldRef == nil || e.ValueFrom.FieldRef.FieldPath != "metadata.name") {
			t.Errorf("%s: a node is not named after its pod", name)
		}
	}
	if len(c.EnvFrom) != 1 || c.EnvFrom[0].SecretRef == nil {
		t.Fatalf("%s takes its secrets from %v", name, c.EnvFrom)
	}
	if s := m.secrets[c.EnvFrom[0].SecretRef.Name]; s != nil {
		for key := range s.Data {
			given[key] = true
		}
	} else {
		for line := range strings.Lines(string(file(t, dir+"/secrets.env.example"))) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && value != "" && !strings.HasPrefix(key, "#") {
				given[key] = true
			}
		}
	}
	complete(t, name, dir+"/manna.yaml", given)
}

// checkReferences sees that the ConfigMaps, volumes and accounts are there that a pod
// names.
func checkReferences(t *testing.T, m *manifests, name string, pod *core.PodSpec) {
	t.Helper()
	volumes := map[string]bool{"data": m.sets[name] != nil}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
		if v.ConfigMap != nil && m.configs[v.ConfigMap.Name] == nil {
			t.Errorf("%s mounts the ConfigMap %s, which there is not", name, v.ConfigMap.Name)
		}
	}
	for _, c := range pod.Containers {
		for _, v := range c.VolumeMounts {
			if !volumes[v.Name] {
				t.Errorf("%s mounts the volume %s, which there is not", name, v.Name)
			}
		}
		for _, p := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if p == nil {
				continue
			}
			port := ""
			switch {
			case p.HTTPGet != nil:
				port = p.HTTPGet.Port.StrVal
			case p.TCPSocket != nil:
				port = p.TCPSocket.Port.StrVal
			}
			if (p.HTTPGet != nil || p.TCPSocket != nil) && !hasPort(&c, port) {
				t.Errorf("%s is probed at the port %q, which it does not have", name, port)
			}
		}
	}
	if a := pod.ServiceAccountName; a != "" && m.accounts[a] == nil {
		t.Errorf("%s has the account %s, which there is not", name, a)
	}
}

func hasPort(c *core.Container, name string) bool {
	return slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == name })
}

func checkRights(t *testing.T, name string, pod *core.PodSpec) {
	t.Helper()
	s, c := pod.SecurityContext, pod.Containers[0].SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser != 65532 || s.FSGroup == nil || *s.FSGroup != 65532 ||
		s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s runs as %+v", name, s)
	}
	if c == nil || c.AllowPrivilegeEscalation == nil || *c.AllowPrivilegeEscalation || c.ReadOnlyRootFilesystem == nil || !*c.ReadOnlyRootFilesystem ||
		c.Capabilities == nil || !slices.Contains(c.Capabilities.Drop, "ALL") {
		t.Errorf("%s has the rights %+v", name, c)
	}
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s has a token for Kubernetes", name)
	}
}

func checkProbes(t *testing.T, name string, c *core.Container) {
	t.Helper()
	for what, p := range map[string]*core.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil || p.HTTPGet.Path != what || p.HTTPGet.Port.StrVal != "admin" {
			t.Errorf("%s: the probe of %s is %+v", name, what, p)
		}
	}
	// A node that takes long to read its log is not killed for it.
	if p := c.StartupProbe; p == nil || p.HTTPGet == nil || p.HTTPGet.Path != "/healthz" || p.PeriodSeconds*p.FailureThreshold < 120 {
		t.Errorf("%s: the startup probe is %+v", name, p)
	}
}

func checkVolumes(t *testing.T, name string, set *apps.StatefulSet) {
	t.Helper()
	claims := set.Spec.VolumeClaimTemplates
	if len(claims) != 1 || claims[0].Name != "data" || claims[0].Spec.Resources.Requests.Storage().IsZero() {
		t.Errorf("%s claims the volumes %+v", name, claims)
	}
	c := &set.Spec.Template.Spec.Containers[0]
	if !slices.ContainsFunc(c.VolumeMounts, func(v core.VolumeMount) bool {
		return v.Name == "data" && v.MountPath == "/var/lib/manna" && !v.ReadOnly
	}) {
		t.Errorf("%s does not keep its log on its volume: %+v", name, c.VolumeMounts)
	}
	if !slices.ContainsFunc(c.VolumeMounts, func(v core.VolumeMount) bool { return v.Name == "config" && v.MountPath == "/etc/manna" }) {
		t.Errorf("%s has no configuration: %+v", name, c.VolumeMounts)
	}
	keep := set.Spec.PersistentVolumeClaimRetentionPolicy
	if keep == nil || keep.WhenDeleted != apps.RetainPersistentVolumeClaimRetentionPolicyType || keep.WhenScaled != apps.RetainPersistentVolumeClaimRetentionPolicyType {
		t.Errorf("%s throws logs away: %+v", name, keep)
	}
}

func checkResources(t *testing.T, name string, c *core.Container) {
	t.Helper()
	for _, list := range []core.ResourceList{c.Resources.Requests, c.Resources.Limits} {
		if list.Cpu().IsZero() || list.Memory().IsZero() {
			t.Errorf("%s has the resources %+v", name, c.Resources)
		}
	}
	i := slices.IndexFunc(c.Env, func(e core.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	if i < 0 {
		t.Fatalf("%s has no GOMEMLIMIT", name)
	}
	mebibytes, ok := strings.CutSuffix(c.Env[i].Value, "MiB")
	var limit int64
	if err := json.Unmarshal([]byte(mebibytes), &limit); err != nil || !ok {
		t.Fatalf("%s: GOMEMLIMIT %q: %v", name, c.Env[i].Value, err)
	}
	if hard := c.Resources.Limits.Memory().Value(); limit<<20 > hard*92/100 || limit<<20 < hard/2 {
		t.Errorf("%s: GOMEMLIMIT is %d of a limit of %d bytes", name, limit<<20, hard)
	}
}

// checkServices sees who is reached by which name.
func (m *manifests) checkServices(t *testing.T) {
	t.Helper()
	public, nodes := m.services["manna"], m.services["manna-nodes"]
	if public == nil || nodes == nil {
		t.Fatalf("it has the services %v", slices.Collect(maps.Keys(m.services)))
	}
	for name, set := range m.sets {
		pod := labels.Set(set.Spec.Template.Labels)
		if set.Spec.ServiceName != nodes.Name || !labels.SelectorFromSet(nodes.Spec.Selector).Matches(pod) {
			t.Errorf("%s is in no service of nodes", name)
		}
		if got, want := labels.SelectorFromSet(public.Spec.Selector).Matches(pod), name == "manna-front"; got != want {
			t.Errorf("claims go to %s: %v", name, got)
		}
	}
	for _, p := range public.Spec.Ports {
		if p.TargetPort.StrVal != "public" {
			t.Errorf("the public service has the port %+v", p)
		}
	}
	if nodes.Spec.ClusterIP != core.ClusterIPNone || !nodes.Spec.PublishNotReadyAddresses {
		t.Error("the nodes are not to be reached one by one")
	}
	for _, d := range m.deployments {
		s := m.services[d.Name]
		if s == nil || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
			t.Errorf("%s is in no service", d.Name)
		}
	}
}

// checkSelectors sees that budgets and policies are about the pods that they are meant
// for, and no others.
func (m *manifests) checkSelectors(t *testing.T) {
	t.Helper()
	if len(m.budgets) != len(m.sets) || len(m.networks) != 2 {
		t.Errorf("it has %d budgets and %d policies", len(m.budgets), len(m.networks))
	}
	matches := func(s *meta.LabelSelector, pod map[string]string) bool {
		selector, err := meta.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatal(err)
		}
		return selector.Matches(labels.Set(pod))
	}
	for name, set := range m.sets {
		pod := set.Spec.Template.Labels
		if !matches(set.Spec.Selector, pod) {
			t.Errorf("%s does not select its own pods", name)
		}
		for other, b := range m.budgets {
			if got, want := matches(b.Spec.Selector, pod), other == name; got != want {
				t.Errorf("the budget %s is about %s: %v", other, name, got)
			}
			if b.Spec.MaxUnavailable == nil || b.Spec.MaxUnavailable.IntVal != 1 || b.Spec.MinAvailable != nil {
				t.Errorf("the budget %s is %+v", other, b.Spec)
			}
		}
		for other, n := range m.networks {
			if got, want := matches(&n.Spec.PodSelector, pod), other == "manna-admin" || name == "manna-front"; got != want {
				t.Errorf("the policy %s is about %s: %v", other, name, got)
			}
		}
	}
	for _, d := range m.deployments {
		for other, n := range m.networks {
			if matches(&n.Spec.PodSelector, d.Spec.Template.Labels) {
				t.Errorf("the policy %s cuts %s off", other, d.Name)
			}
		}
	}
}

// What is optional works with the overlay that names it.
func TestMonitoring(t *testing.T) {
	const overlay = "../kubernetes/production/kustomization.yaml"
	text := file(t, overlay)
	on := bytes.Replace(text, []byte("\n# components: "), []byte("\ncomponents: "), 1)
	if bytes.Equal(on, text) {
		t.Fatalf("%s does not show how to take monitoring in", overlay)
	}
	disk := filesys.MakeFsInMemory()
	copyTree(t, disk, "../kubernetes", "/kubernetes")
	if err := disk.WriteFile("/kubernetes/production/kustomization.yaml", on); err != nil {
		t.Fatal(err)
	}
	m := render(t, disk, "/kubernetes/production")
	monitor := m.monitors["manna"]
	if monitor == nil {
		t.Fatal("there is no ServiceMonitor")
	}
	selector := labels.SelectorFromSet(monitor.Spec.Selector.MatchLabels)
	for name, s := range m.services {
		if got, want := selector.Matches(labels.Set(s.Labels)), name == "manna-nodes"; got != want {
			t.Errorf("it watches the service %s: %v", name, got)
		}
	}
	if e := monitor.Spec.Endpoints; len(e) != 1 || e[0].Path != "/metrics" || e[0].Port != "admin" {
		t.Errorf("it watches %+v", e)
	}
}

// copyTree copies a directory from the disk.
func copyTree(t *testing.T, to filesys.FileSystem, from, under string) {
	t.Helper()
	disk := filesys.MakeFsOnDisk()
	err := disk.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		return to.WriteFile(under+strings.TrimPrefix(path, from), file(t, path))
	})
	if err != nil {
		t.Fatal(err)
	}
}
