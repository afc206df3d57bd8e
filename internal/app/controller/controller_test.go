package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	good := Default()
	good.ClusterID, good.PodName, good.PodNamespace = "east-1", "c-1", "fairway-system"
	if err := good.Validate(); err != nil {
		t.Fatalf("good options: %v", err)
	}
	for flag, spoil := range map[string]func(*Options){
		"--cluster-id":         func(o *Options) { o.ClusterID = "" },
		"--consul-address":     func(o *Options) { o.ConsulAddress = "" },
		"--log-format":         func(o *Options) { o.LogFormat = "xml" },
		"--listen":             func(o *Options) { o.Listen = "9980" },
		"--agent-port":         func(o *Options) { o.AgentPort = 0 },
		"--max-dead-share":     func(o *Options) { o.MaxDeadShare = 2 },
		"--forget-nodes-after": func(o *Options) { o.ForgetNodesAfter = 0 },
		"--pod-name":           func(o *Options) { o.PodName = "" },
		"--nodes":              func(o *Options) { o.Nodes = false },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v does not name it", flag, err)
		}
	}
}

// What is wrong with what is to be published names the flag; switched off it is not
// looked at.
func TestExportOptions(t *testing.T) {
	t.Parallel()
	good := DefaultExport()
	good.Export, good.ExportName, good.ExportSelector = true, "k8s-{name}-{namespace}", "tier in (front, back), !internal"
	if err := good.Validate(); err != nil {
		t.Fatalf("good options: %v", err)
	}
	for flag, spoil := range map[string]func(*ExportOptions){
		"--export-namespaces":         func(o *ExportOptions) { o.ExportNamespaces = nil },
		"--export-except-namespaces":  func(o *ExportOptions) { o.ExportExceptNamespaces = []string{"*"} },
		"--export-selector":           func(o *ExportOptions) { o.ExportSelector = "a b" },
		"--export-namespace-selector": func(o *ExportOptions) { o.ExportNamespaceSelector = "a in b" },
		"--export-name":               func(o *ExportOptions) { o.ExportName = "k8s-{service}" },
		"--export-load-balancer":      func(o *ExportOptions) { o.ExportLoadBalancer = "hostname" },
		"--export-node-port":          func(o *ExportOptions) { o.ExportNodePort = "nodes" },
		"--export-cluster-ip":         func(o *ExportOptions) { o.ExportClusterIP = "" },
		"--export-headless":           func(o *ExportOptions) { o.ExportHeadless = "vip" },
		"--export-external-name":      func(o *ExportOptions) { o.ExportExternalName = "endpoints" },
		"--export-node-address":       func(o *ExportOptions) { o.ExportNodeAddress = "any" },
		"--export-resync":             func(o *ExportOptions) { o.ExportResync = time.Second },
		"--max-removal-share":         func(o *ExportOptions) { o.MaxRemovalShare = 2 },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), flag+" ") && !strings.HasPrefix(err.Error(), flag+":") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v is not about it alone", flag, err)
		}
		bad.Export = false
		if err := bad.Validate(); err != nil {
			t.Errorf("%s: %v, although nothing is published", flag, err)
		}
	}
	p := good.policy("east")
	if p.Cluster != "east" || p.Name != "k8s-{name}-{namespace}" || !p.Selector.Matches(map[string]string{"tier": "back"}) || p.Selector.Empty() {
		t.Errorf("policy %+v", p)
	}
}

// Who asks what would be if the controller was told something else replaces what it
// was told, lists too, and learns which flag there is not.
func TestPolicyOfArguments(t *testing.T) {
	t.Parallel()
	args := []string{"/usr/bin/fairway-controller", "--cluster-id=east", "--export", "--listen=:9980", "--export-namespaces=*", "--export-except-namespaces=kube-system", "--export-name=k8s-{name}"}
	p, exporting, err := Policy(args, []string{"--export-namespaces=shop,bar", "--export-except-namespaces=bar"})
	if err != nil || !exporting || p.Cluster != "east" || p.Name != "k8s-{name}" || !slices.Equal(p.Allow, []string{"shop", "bar"}) || !slices.Equal(p.Deny, []string{"bar"}) {
		t.Errorf("policy %+v, exporting %v, %v", p, exporting, err)
	}
	for wrong, says := range map[string]string{
		"--export-nam=a": "unknown flag: --export-nam", "export-all": `"export-all" is no flag`, "--listen=:1": "unknown flag: --listen", "--export-name={service}": "--export-name",
	} {
		if _, _, err := Policy(args, []string{wrong}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want one that says %q", wrong, err, says)
		}
	}
	if _, _, err := Policy([]string{"--export-node-port=nodes"}, nil); err == nil || !strings.Contains(err.Error(), "--export-node-port") {
		t.Errorf("what the controller was told is wrong: %v", err)
	}
}

// A replica is ready only if every loop can do its work, and says of each that
// cannot why.
func TestBoard(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	b := newBoard(newMetrics(registry))
	ready := func() float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "fairway_controller_ready" })
		return families[i].GetMetric()[0].GetGauge().GetValue()
	}
	one, two := b.loop("one waits"), b.loop("two waits")
	says := func(wantWhy, wantDetails string, wantReady float64) {
		t.Helper()
		why, details := b.says()
		if is := ready(); why != wantWhy || details != wantDetails || is != wantReady {
			t.Errorf("says %q and %q, ready %v; want %q and %q, %v", why, details, is, wantWhy, wantDetails, wantReady)
		}
	}
	one.unblock("one holds back")
	says("two waits", "one holds back", 0)
	two.unblock("")
	says("", "one holds back", 1)
	one.block("one is blind")
	says("one is blind", "one holds back", 0)
}
