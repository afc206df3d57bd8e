package cluster

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Topology)
		ok     bool
	}{
		"default":         {func(*Topology) {}, true},
		"older version":   {func(t *Topology) { t.Kubernetes = "1.36" }, true},
		"most nodes":      {func(t *Topology) { t.Nodes = maxNodes }, true},
		"too many nodes":  {func(t *Topology) { t.Nodes = maxNodes + 1 }, false},
		"no node":         {func(t *Topology) { t.Nodes = 0 }, false},
		"unknown version": {func(t *Topology) { t.Kubernetes = "1.20" }, false},
		"no name":         {func(t *Topology) { t.Name = "" }, false},
		"dash":            {func(t *Topology) { t.Name = "my-lab" }, false},
		"path":            {func(t *Topology) { t.Name = "../etc" }, false},
		"long":            {func(t *Topology) { t.Name = "abcdefghijklm" }, false},
		"joining":         {func(t *Topology) { *t = Joining("lab", "other") }, true},
		"joining itself":  {func(t *Topology) { *t = Joining("lab", "lab") }, false},
		"joining no name": {func(t *Topology) { *t = Joining("lab", "no-name") }, false},
		"joining, agents": {func(t *Topology) { t.Join = "other" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			topology := Default("lab")
			tc.change(&topology)
			if err := topology.Validate(); (err == nil) != tc.ok {
				t.Errorf("Validate() = %v, want ok: %v", err, tc.ok)
			}
		})
	}
}

func TestAddressPlan(t *testing.T) {
	type row struct{ Name, Addr, Extra, Pods, Namespace string }
	var got []row
	for _, h := range append(Default("lab").hosts(), Joining("other", "lab").known()...) {
		r := row{Name: h.Name, Addr: h.Addr.String(), Namespace: h.Namespace}
		if h.Extra.IsValid() {
			r.Extra = h.Extra.String()
		}
		if h.Pods.IsValid() {
			r.Pods = h.Pods.String()
		}
		got = append(got, r)
	}
	want := []row{
		{"cp", "198.18.0.2", "198.18.0.3", "", "fw-lab-cp"},
		{"client", "198.18.0.9", "", "", "fw-lab-client"},
		{"consul-1", "198.18.0.11", "", "", "fw-lab-consul-1"},
		{"consul-2", "198.18.0.12", "", "", "fw-lab-consul-2"},
		{"consul-3", "198.18.0.13", "", "", "fw-lab-consul-3"},
		{"n1", "198.18.0.21", "", "198.18.65.0/24", "fw-lab-n1"},
		{"n2", "198.18.0.22", "", "198.18.66.0/24", "fw-lab-n2"},
		{"cp", "198.18.1.2", "198.18.1.3", "", "fw-other-cp"},
		{"client", "198.18.1.9", "", "", "fw-other-client"},
		{"n1", "198.18.1.21", "", "198.18.129.0/24", "fw-other-n1"},
		{"consul-1", "198.18.0.11", "", "", "fw-lab-consul-1"},
		{"consul-2", "198.18.0.12", "", "", "fw-lab-consul-2"},
		{"consul-3", "198.18.0.13", "", "", "fw-lab-consul-3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

// TestAddressesNeverMeet: in a lab of any size, and one that joins it, all addresses and names of
// links differ, and no network reaches into another.
func TestAddressesNeverMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lab, other := Default("lab"), Joining("other", "lab")
		lab.Nodes = rapid.IntRange(1, maxNodes).Draw(t, "nodes")
		other.Nodes = rapid.IntRange(1, maxNodes).Draw(t, "nodes of the other")
		hostNet := netip.PrefixFrom(lab.hostAddr(0), hostBits)
		networks := []netip.Prefix{hostNet, lab.servicePrefix(), other.servicePrefix()}
		seen := map[string]string{}
		claim := func(what, host string) {
			if other, taken := seen[what]; taken {
				t.Fatalf("%s belongs to both %s and %s", what, other, host)
			}
			seen[what] = host
		}
		for _, h := range append(lab.hosts(), other.hosts()...) {
			claim(h.Namespace, h.Namespace)
			claim(h.Addr.String(), h.Namespace)
			claim(h.port, h.Namespace)
			if len(h.port) > maxLinkName {
				t.Fatalf("%q is too long a name for a link", h.port)
			}
			if !hostNet.Contains(h.Addr) {
				t.Fatalf("%s has %s, outside %s", h.Namespace, h.Addr, hostNet)
			}
			if h.Extra.IsValid() {
				claim(h.Extra.String(), h.Namespace)
			}
			if h.Pods.IsValid() {
				networks = append(networks, h.Pods)
			}
		}
		for i, a := range networks {
			for _, b := range networks[:i] {
				if a.Overlaps(b) {
					t.Fatalf("networks %s and %s overlap", a, b)
				}
			}
		}
	})
}

// maxLinkName is Linux' IFNAMSIZ without the byte that ends the name.
const maxLinkName = 15
