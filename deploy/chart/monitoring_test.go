package chart_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/lab/servers"
)

var monitoring = []string{
	"--set", "clusterID=test",
	"--set", "monitoring.rules.enabled=true", "--set", "monitoring.rules.labels.release=prom",
	"--set", "monitoring.podMonitor.enabled=true", "--set", "monitoring.podMonitor.labels.release=prom",
	"--set", "monitoring.dashboard.enabled=true", "--set", "monitoring.dashboard.namespace=grafana",
}

// The alerts are sound, and fire when they should and not before.
func TestAlerts(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"files/alerts.yaml", "testdata/alerts_test.yaml"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, dir, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml")
	promtool(t, dir, "test", "rules", "alerts_test.yaml")
}

// Every alert is seen to fire by its unit test.
func TestEveryAlertIsSeenToFire(t *testing.T) {
	var rules struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	readYAML(t, "files/alerts.yaml", &rules)
	var tests struct {
		Tests []struct {
			Rules []struct {
				Alert string `json:"alertname"`
				Fires []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	readYAML(t, "testdata/alerts_test.yaml", &tests)
	type seen struct{ Fires, Silent bool }
	got, want := map[string]seen{}, map[string]seen{}
	for _, test := range tests.Tests {
		for _, rule := range test.Rules {
			s := got[rule.Alert]
			s.Fires, s.Silent = s.Fires || len(rule.Fires) > 0, s.Silent || len(rule.Fires) == 0
			got[rule.Alert] = s
		}
	}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			want[rule.Alert] = seen{true, true}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("%d alerts (-want +tested):\n%s", len(want), diff)
	}
}

// Prometheus understands every query of the dashboard.
func TestDashboardQueries(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile("files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	ids := map[int]string{}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$node", ".*")
	for _, panel := range dashboard.Panels {
		if other, taken := ids[panel.ID]; taken {
			t.Errorf("panels %q and %q have one ID", other, panel.Title)
		}
		ids[panel.ID] = panel.Title
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %q shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			rules = append(rules, rule{fmt.Sprintf("query:%d", len(rules)), variables.Replace(target.Expr)})
		}
	}
	group, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "queries.yaml"), group, 0o600); err != nil {
		t.Fatal(err)
	}
	said := promtool(t, dir, "check", "rules", "queries.yaml")
	if want := fmt.Sprintf("%d rules found", len(rules)); len(rules) == 0 || !strings.Contains(said, want) {
		t.Errorf("promtool says %q, want %q", said, want)
	}
}

// What is rendered is what was tested, under the labels that were asked for.
func TestMonitoringIsRenderedAsItIsTested(t *testing.T) {
	h := newHelm(t)
	var rule struct {
		Metadata struct{ Labels map[string]string }
		Spec     any
	}
	h.decodeOnly(t, "PrometheusRule", &rule, monitoring...)
	var file any
	readYAML(t, "files/alerts.yaml", &file)
	if diff := cmp.Diff(file, rule.Spec); diff != "" || rule.Metadata.Labels["release"] != "prom" {
		t.Errorf("labels %v, rules (-file +rendered):\n%s", rule.Metadata.Labels, diff)
	}

	var config corev1.ConfigMap
	h.object(t, "ConfigMap", &config, monitoring...)
	text, err := os.ReadFile("files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(text)), strings.TrimSpace(config.Data["fairway.json"])); diff != "" {
		t.Errorf("dashboard (-file +rendered):\n%s", diff)
	}
	if config.Namespace != "grafana" || config.Labels["grafana_dashboard"] != "1" {
		t.Errorf("dashboard in namespace %q with labels %v", config.Namespace, config.Labels)
	}

	var monitor struct {
		Spec struct {
			Selector  struct{ MatchLabels map[string]string }
			Endpoints []struct{ Port, Path string } `json:"podMetricsEndpoints"`
		}
	}
	h.decodeOnly(t, "PodMonitor", &monitor, monitoring...)
	ds := daemonSet(t, "--set", "clusterID=test")
	for key, value := range monitor.Spec.Selector.MatchLabels {
		if ds.Spec.Template.Labels[key] != value {
			t.Errorf("the PodMonitor selects %s=%s, and the agents' pods have %q", key, value, ds.Spec.Template.Labels[key])
		}
	}
	port := ds.Spec.Template.Spec.Containers[0].Ports[0].Name
	if e := monitor.Spec.Endpoints; len(e) != 1 || e[0].Port != port || e[0].Path != "/metrics" {
		t.Errorf("the PodMonitor scrapes %+v, and the agents' port is %q", e, port)
	}
}

// The scrape configuration of the docs keeps the pods of everything that alerts ask for.
func TestScrapeConfigKeepsAgentsAndControllers(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```yaml\nscrape_configs:")
	block, _, _ = strings.Cut(block, "```")
	var config struct {
		Jobs []struct {
			Relabel []struct {
				Source []string `json:"source_labels"`
				Regex  string
				Action string
				Target string `json:"target_label"`
			} `json:"relabel_configs"`
		} `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte("scrape_configs:"+block), &config); err != nil || len(config.Jobs) != 1 || len(config.Jobs[0].Relabel) == 0 {
		t.Fatalf("%v in %q", err, block)
	}
	keep := config.Jobs[0].Relabel[0]
	if keep.Action != "keep" {
		t.Fatalf("the first rule is %+v", keep)
	}
	targets := map[string]bool{}
	for _, rule := range config.Jobs[0].Relabel {
		targets[rule.Target] = true
	}
	if !targets["node"] || !targets["namespace"] || !targets["pod"] {
		t.Errorf("labels %v, and alerts need node, namespace and pod", targets)
	}
	h := newHelm(t)
	var agents appsv1.DaemonSet
	var controllers appsv1.Deployment
	h.object(t, "DaemonSet", &agents, "--set", "clusterID=test")
	h.object(t, "Deployment", &controllers, "--set", "clusterID=test", "--set", "registry=catalog", "--set", "consul.address=http://consul:8500")
	for _, pod := range []corev1.PodTemplateSpec{agents.Spec.Template, controllers.Spec.Template} {
		var values []string
		for _, source := range keep.Source {
			value := pod.Spec.Containers[0].Ports[0].Name
			if label, is := strings.CutPrefix(source, "__meta_kubernetes_pod_label_"); is {
				for key := range pod.Labels {
					if strings.NewReplacer(".", "_", "/", "_").Replace(key) == label {
						value = pod.Labels[key]
					}
				}
			}
			values = append(values, value)
		}
		if joined := strings.Join(values, ";"); !regexp.MustCompile("^(?:" + keep.Regex + ")$").MatchString(joined) {
			t.Errorf("%s is not scraped: %q does not keep it", joined, keep.Regex)
		}
	}
}

// A cluster without the operator's resources could not install them.
func TestMonitoringIsOffByDefault(t *testing.T) {
	h := newHelm(t)
	for _, kind := range []string{"PrometheusRule", "PodMonitor", "ConfigMap"} {
		if found := h.objects(t, kind, "--set", "clusterID=test"); len(found) > 0 {
			t.Errorf("%d objects of kind %s by default", len(found), kind)
		}
	}
}

// decodeOnly decodes some fields of the only object of a kind.
func (h helm) decodeOnly(t *testing.T, kind string, into any, args ...string) {
	t.Helper()
	found := h.objects(t, kind, args...)
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s, want 1", len(found), kind)
	}
	for _, doc := range found {
		if err := yaml.Unmarshal(doc, into); err != nil {
			t.Fatal(err)
		}
	}
}

// promtool runs Prometheus' own tool in a folder and returns what it said.
func promtool(t *testing.T, dir string, args ...string) string {
	t.Helper()
	bin, err := servers.Ensure(t.Context(), servers.Options{Families: []servers.Family{servers.Prometheus}, Out: t.Output()})
	if err != nil {
		t.Fatalf("build promtool: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), bin.Path("promtool"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
