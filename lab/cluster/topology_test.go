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
	for _, h := range Default("lab").hosts() {
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
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("hosts (-want +got):\n%s", diff)
	}
}

// TestAddressesNeverMeet: in a lab of any size all addresses differ and lie in the networks they
// belong to.
func TestAddressesNeverMeet(t *testing.T) {
	hostNet, podNet := netip.MustParsePrefix(hostPrefix), netip.MustParsePrefix(podPrefix)
	rapid.Check(t, func(t *rapid.T) {
		topology := Default("lab")
		topology.Nodes = rapid.IntRange(1, maxNodes).Draw(t, "nodes")
		seen := map[string]string{}
		claim := func(what, host string) {
			if other, taken := seen[what]; taken {
				t.Fatalf("%s belongs to both %s and %s", what, other, host)
			}
			seen[what] = host
		}
		for _, h := range topology.hosts() {
			claim(h.Name, h.Name)
			claim(h.Addr.String(), h.Name)
			if !hostNet.Contains(h.Addr) {
				t.Fatalf("%s has %s, outside %s", h.Name, h.Addr, hostNet)
			}
			if h.Extra.IsValid() {
				claim(h.Extra.String(), h.Name)
			}
			if h.Pods.IsValid() {
				claim(h.Pods.String(), h.Name)
				if !podNet.Contains(h.Pods.Addr()) {
					t.Fatalf("pods of %s in %s, outside %s", h.Name, h.Pods, podNet)
				}
			}
		}
	})
}
