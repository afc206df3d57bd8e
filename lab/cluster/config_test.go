package cluster

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

// rendered returns a configuration file of node n1 as the server that reads it would understand it.
func rendered(t *testing.T, file string, topology Topology) map[string]any {
	t.Helper()
	c := newCluster(topology, record{})
	data, err := render(file, c.nodeConfig(c.Host("n1")))
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := yaml.UnmarshalStrict(data, &v); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, data)
	}
	return v
}

func TestKubeletConfig(t *testing.T) {
	got := rendered(t, "kubelet.yaml", Default("lab"))
	for key, want := range map[string]any{
		"address":                  "198.18.0.21",
		"port":                     float64(10260),
		"cgroupRoot":               "/fw-lab-n1",
		"failCgroupV1":             false,
		"resolvConf":               "/var/lib/fairway-lab/lab/n1/resolv.conf",
		"containerRuntimeEndpoint": "unix:///var/lib/fairway-lab/lab/n1/containerd.sock",
		"podLogsDir":               "/var/lib/fairway-lab/lab/n1/pod-logs",
		"clusterDNS":               nil,
		"featureGates":             nil,
	} {
		if diff := cmp.Diff(want, got[key]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	named := Joining("other", "lab")
	named.DNS = true
	if diff := cmp.Diff([]any{"198.19.1.10"}, rendered(t, "kubelet.yaml", named)["clusterDNS"]); diff != "" {
		t.Errorf("DNS of the second cluster (-want +got):\n%s", diff)
	}
	older := Default("lab")
	older.Kubernetes = "1.36"
	gates := rendered(t, "kubelet.yaml", older)["featureGates"]
	if diff := cmp.Diff(map[string]any{"PodsAPI": true}, gates); diff != "" {
		t.Errorf("feature gates of 1.36 (-want +got):\n%s", diff)
	}
}

// TestNodesShareNothing: the nodes of one machine, and of two labs, keep apart by these names.
func TestNodesShareNothing(t *testing.T) {
	seen := map[any]string{}
	for _, lab := range []string{"a", "b"} {
		for _, node := range []string{"n1", "n2"} {
			c := newCluster(Default(lab), record{})
			data, err := render("cni.conflist", c.nodeConfig(c.Host(node)))
			if err != nil {
				t.Fatal(err)
			}
			var network struct{ Name string }
			if err := json.Unmarshal(data, &network); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{network.Name, c.containerdSocket(node), c.Host(node).Namespace + " cgroup"} {
				if other, taken := seen[name]; taken {
					t.Errorf("%s belongs to both %s and %s/%s", name, other, lab, node)
				}
				seen[name] = lab + "/" + node
			}
		}
	}
}

func TestProxyConfig(t *testing.T) {
	got := rendered(t, "kube-proxy.yaml", Default("lab"))
	if got["mode"] != "nftables" || got["hostnameOverride"] != "n1" {
		t.Errorf("kube-proxy.yaml = %v", got)
	}
}

func TestContainerdConfig(t *testing.T) {
	c := newCluster(Default("lab"), record{})
	data, err := render("containerd.toml", c.nodeConfig(c.Host("n2")))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`root = "/var/lib/fairway-lab/lab/n2/containerd/root"`,
		`address = "/var/lib/fairway-lab/lab/n2/containerd.sock"`,
		`conf_dir = "/var/lib/fairway-lab/lab/n2/cni"`,
		`restrict_oom_score_adj = true`,
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("containerd.toml lacks %s", want)
		}
	}
}

func TestConsulConfig(t *testing.T) {
	c := newCluster(Default("lab"), record{})
	server := c.consulConfig(c.Host("consul-2"), "id", nil)
	agent := c.consulConfig(c.Host("n1"), "id", map[string]string{"agent": "secret"})
	if !server.Server || server.BootstrapExpect != 3 || server.BindAddr != "198.18.0.12" {
		t.Errorf("server's configuration: %+v", server)
	}
	if agent.Server || agent.BootstrapExpect != 0 || agent.BindAddr != "198.18.0.21" || agent.LeaveOnTerminate {
		t.Errorf("agent's configuration: %+v", agent)
	}
	if agent.ACL.DefaultPolicy != "deny" || !agent.ACL.Enabled {
		t.Errorf("agent's access control: %+v", agent.ACL)
	}
	if diff := cmp.Diff([]string{"198.18.0.11", "198.18.0.12", "198.18.0.13"}, agent.RetryJoin); diff != "" {
		t.Errorf("servers to join (-want +got):\n%s", diff)
	}
	if server.Ports["dns"] != 53 || agent.Ports["dns"] != 0 {
		t.Errorf("ports for DNS: %v at a server, %v at an agent; want 53 where nodes ask", server.Ports, agent.Ports)
	}
}

// What works in a lab works with the rights that the documentation lists.
func TestFairwayRules(t *testing.T) {
	page, err := os.ReadFile("../../docs/registries.md")
	if err != nil {
		t.Fatal(err)
	}
	plain := func(text string) string { return strings.Join(strings.Fields(text), " ") } // columns differ
	documented := plain(strings.ReplaceAll(string(page), "fairway-east-", "fairway-"+ClusterID+"-"))
	for token, rules := range fairwayRules(ClusterID) {
		for rule := range strings.Lines(strings.TrimSpace(rules)) {
			if rule := plain(rule); !strings.Contains(documented, rule) {
				t.Errorf("token %s: docs/registries.md does not list %s", token, rule)
			}
		}
	}
}

func TestResolvers(t *testing.T) {
	c := newCluster(Default("lab"), record{})
	got, err := render("resolv.conf", c.resolvers())
	if err != nil {
		t.Fatal(err)
	}
	want := "nameserver 198.18.0.11\nnameserver 198.18.0.12\nnameserver 198.18.0.13\noptions timeout:1\n"
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("resolv.conf (-want +got):\n%s", diff)
	}
}
