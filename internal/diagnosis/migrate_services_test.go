package diagnosis

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/purge"
)

// What consul-k8s' chart makes of its values is read as what Fairway is to be told.
func TestReadSync(t *testing.T) {
	t.Parallel()
	script := func(flags ...string) []string {
		return []string{"/bin/sh", "-ec", "consul-k8s-control-plane sync-catalog \\\n  " + strings.Join(flags, " \\\n  ")}
	}
	value := func(path string, value any) Value { return Value{"controller.export." + path, value} }
	for name, tt := range map[string]struct {
		words []string
		node  string
		want  []Value
	}{
		"its chart's defaults": {
			script("-log-level=info", "-k8s-default-sync=true", "-consul-domain=consul", `-allow-k8s-namespace="*"`,
				`-deny-k8s-namespace="kube-system"`, `-deny-k8s-namespace="kube-public"`, "-k8s-write-namespace=${NAMESPACE}",
				"-node-port-sync-type=ExternalFirst", "-consul-node-name=k8s-sync", "-add-k8s-namespace-suffix"),
			"k8s-sync",
			[]Value{value("enabled", true), value("all", true), value("name", "{name}-{namespace}"), value("externalName", "off")},
		},
		"all else": {
			script("-k8s-default-sync=false", `-allow-k8s-namespace="shop"`, `-deny-k8s-namespace="dev"`, "-sync-clusterip-services=false",
				"-sync-lb-services-endpoints=true", "-node-port-sync-type=InternalOnly", `-consul-service-prefix="k8s-"`, "-enable-ingress=true",
				"-consul-node-name=other"),
			"other",
			[]Value{value("enabled", true), value("namespaces", []string{"shop"}), value("exceptNamespaces", []string{"dev"}), value("name", "k8s-{name}"),
				value("clusterIP", "off"), value("headless", "off"), value("loadBalancer", "endpoints"), value("nodeAddress", "internal"),
				value("externalName", "off"), value("ingress", true)},
		},
		"no flags, as a list of words": {
			[]string{"consul-k8s-control-plane", "sync-catalog"}, "k8s-sync",
			[]Value{value("enabled", true), value("all", true), value("exceptNamespaces", []string{}), value("nodeAddress", "external"), value("externalName", "off")},
		},
		"not to Consul": {script("-to-consul=false"), "k8s-sync", nil},
	} {
		got, ok := ReadSync(tt.words)
		if diff := cmp.Diff(tt.want, got.Values); diff != "" || !ok || got.Node != tt.node || got.ToConsul != (tt.want != nil) {
			t.Errorf("%s: %v, node %q, to Consul %v, -want +got:\n%s", name, ok, got.Node, got.ToConsul, diff)
		}
	}
	if got, ok := ReadSync([]string{"consul-k8s-control-plane", "inject-connect", "-to-consul=true"}); ok {
		t.Errorf("another command: %+v", got)
	}
}

// A change goes one step after the other, and no step is shown while clients would
// lose something by it.
func TestMigrateServices(t *testing.T) {
	t.Parallel()
	entry := func(reason purge.Reason, remove bool) purge.Decision {
		return purge.Decision{Entry: purge.Entry{Service: "web", ConsulNode: SyncNode}, Reason: reason, Remove: remove}
	}
	covered, missed, dead := entry(purge.Covered, true), entry(purge.InService, false), entry(purge.NotGiven, true)
	sync := func(replicas int32) []Sync {
		settings, _ := ReadSync([]string{"sync-catalog"})
		return []Sync{{Name: "consul/consul-sync-catalog", Replicas: replicas, Settings: settings}}
	}
	fromConsul, _ := ReadSync([]string{"sync-catalog", "-to-consul=false"})
	onlyToKubernetes := []Sync{{Name: "consul/consul-sync-catalog", Replicas: 1, Settings: fromConsul}}
	for name, tt := range map[string]struct {
		in   ServiceMigrationFacts
		fine bool
		next string
		// values tells whether the values of the chart are shown.
		values bool
	}{
		"nothing":                          {ServiceMigrationFacts{}, true, "nothing to do", false},
		"not installed":                    {ServiceMigrationFacts{Syncs: sync(1), Entries: []purge.Decision{missed}}, true, "install Fairway with these values", true},
		"agents alone":                     {ServiceMigrationFacts{Syncs: sync(1), Registry: "agent", Entries: []purge.Decision{missed}}, true, "helm upgrade fairway deploy/chart -n fairway-system --reset-then-reuse-values -f FILE --set controller.consulAddress=SERVERS, with these values", true},
		"not exporting":                    {ServiceMigrationFacts{Syncs: sync(1), Installed: true, Registry: "catalog", Entries: []purge.Decision{missed}}, true, "helm upgrade fairway deploy/chart -n fairway-system --reset-then-reuse-values -f FILE, with these values in FILE", true},
		"clients would miss":               {ServiceMigrationFacts{Syncs: sync(1), Installed: true, Exporting: true, Entries: []purge.Decision{covered, missed}}, false, "settle", true},
		"its tag":                          {ServiceMigrationFacts{Syncs: sync(1), Installed: true, Exporting: true, Entries: []purge.Decision{covered}, Tagged: []string{"shop/web"}}, false, "settle", true},
		"its tag, not installed":           {ServiceMigrationFacts{Syncs: sync(1), Entries: []purge.Decision{missed}, Tagged: []string{"shop/web"}}, false, "settle", true},
		"its tag, stopped":                 {ServiceMigrationFacts{Syncs: sync(0), Installed: true, Exporting: true, Entries: []purge.Decision{covered}, Tagged: []string{"shop/web"}}, true, "fairway purge --node k8s-sync --apply", false},
		"beside it":                        {ServiceMigrationFacts{Syncs: sync(1), Installed: true, Exporting: true, Entries: []purge.Decision{covered, dead}}, true, "kubectl -n consul scale deployment consul-sync-catalog --replicas=0", false},
		"stopped, would miss":              {ServiceMigrationFacts{Syncs: sync(0), Installed: true, Exporting: true, Entries: []purge.Decision{missed}}, false, "settle", true},
		"stopped":                          {ServiceMigrationFacts{Syncs: sync(0), Installed: true, Exporting: true, Entries: []purge.Decision{covered}}, true, "fairway purge --node k8s-sync --apply", false},
		"to Kubernetes alone":              {ServiceMigrationFacts{Syncs: onlyToKubernetes, Installed: true, Exporting: true, Entries: []purge.Decision{covered}}, true, "fairway purge --node k8s-sync --apply", false},
		"uninstalled":                      {ServiceMigrationFacts{Installed: true, Exporting: true, Entries: []purge.Decision{dead}}, true, "fairway purge --node k8s-sync --apply", false},
		"its node is left":                 {ServiceMigrationFacts{Syncs: sync(0), Installed: true, Exporting: true, Empty: true}, true, "fairway purge --node k8s-sync --apply", false},
		"done":                             {ServiceMigrationFacts{Syncs: sync(0), Installed: true, Exporting: true}, true, "nothing to do", false},
		"done, and from Consul it goes on": {ServiceMigrationFacts{Syncs: onlyToKubernetes, Installed: true, Exporting: true}, true, "nothing to do", false},
	} {
		tt.in.Node, tt.in.Namespace = SyncNode, "fairway-system"
		got := MigrateServices(tt.in)
		if fine, known := got.Fine(); fine != tt.fine || !known || !strings.HasPrefix(got.Next, tt.next) || got.Headline == "" || (len(got.Values) > 0) != tt.values {
			t.Errorf("%s: fine %v, known %v, %s; next: %s; want %s; values %v", name, fine, known, got.Headline, got.Next, tt.next, got.Values)
		}
	}
}
