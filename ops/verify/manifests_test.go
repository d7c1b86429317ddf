package verify

import (
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// manifests are what an overlay makes, in Kubernetes' types.
type manifests struct {
	sets        map[string]*apps.StatefulSet
	deployments map[string]*apps.Deployment
	services    map[string]*core.Service
	configs     map[string]*core.ConfigMap
	secrets     map[string]*core.Secret
	budgets     map[string]*policy.PodDisruptionBudget
	networks    map[string]*networking.NetworkPolicy
	monitors    map[string]*monitoring.ServiceMonitor
	accounts    map[string]*core.ServiceAccount
}

// render runs Kustomize on a directory of files.
func render(t *testing.T, disk filesys.FileSystem, dir string) *manifests {
	t.Helper()
	all, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(disk, dir)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	m := &manifests{
		sets: map[string]*apps.StatefulSet{}, deployments: map[string]*apps.Deployment{}, services: map[string]*core.Service{},
		configs: map[string]*core.ConfigMap{}, secrets: map[string]*core.Secret{}, budgets: map[string]*policy.PodDisruptionBudget{},
		networks: map[string]*networking.NetworkPolicy{}, monitors: map[string]*monitoring.ServiceMonitor{}, accounts: map[string]*core.ServiceAccount{},
	}
	for _, r := range all.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if r.GetKind() != "Namespace" && r.GetNamespace() != "manna" {
			t.Errorf("%s %s is in the namespace %q", r.GetKind(), r.GetName(), r.GetNamespace())
		}
		switch r.GetKind() {
		case "StatefulSet":
			take(t, m.sets, r.GetName(), text)
		case "Deployment":
			take(t, m.deployments, r.GetName(), text)
		case "Service":
			take(t, m.services, r.GetName(), text)
		case "ConfigMap":
			take(t, m.configs, r.GetName(), text)
		case "Secret":
			take(t, m.secrets, r.GetName(), text)
		case "PodDisruptionBudget":
			take(t, m.budgets, r.GetName(), text)
		case "NetworkPolicy":
			take(t, m.networks, r.GetName(), text)
		case "ServiceMonitor":
			take(t, m.monitors, r.GetName(), text)
		case "ServiceAccount":
			take(t, m.accounts, r.GetName(), text)
		case "Namespace":
			take(t, map[string]*core.Namespace{}, r.GetName(), text)
		default:
			t.Errorf("%s %s: this test does not know the kind", r.GetKind(), r.GetName())
		}
	}
	return m
}

// take reads one manifest. A field that the type does not have is an error.
func take[T any](t *testing.T, into map[string]*T, name string, text []byte) {
	t.Helper()
	v := new(T)
	if err := yaml.UnmarshalStrict(text, v); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	into[name] = v
}
