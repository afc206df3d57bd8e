package cluster

import (
	"fmt"
	"net/netip"
	"regexp"
)

// Topology says what a lab consists of. It is a value: equal topologies give equal labs.
type Topology struct {
	// Name tells labs apart: a lower case letter, then up to eleven letters or digits.
	Name string `json:"name"`
	// Nodes is the number of Kubernetes nodes, 1 to 63.
	Nodes int `json:"nodes"`
	// Kubernetes is the minor version, "1.37" or "1.36".
	Kubernetes string `json:"kubernetes"`
	// ConsulAgents puts a Consul client agent on each node. Without it only the servers run.
	ConsulAgents bool `json:"consulAgents"`
}

// Default is the lab most tests want: two nodes, the newest Kubernetes, Consul agents.
func Default(name string) Topology {
	return Topology{Name: name, Nodes: 2, Kubernetes: "1.37", ConsulAgents: true}
}

// maxNodes keeps the pods' networks below 198.18.128.0.
const maxNodes = 63

// The dash is excluded so that a namespace's name (fw-LAB-HOST) can be read back, and the length is
// bounded because socket paths below the lab's folder must stay under 108 bytes.
var validName = regexp.MustCompile(`^[a-z][a-z0-9]{0,11}$`)

// Validate reports the first thing that makes t impossible.
func (t Topology) Validate() error {
	switch {
	case !validName.MatchString(t.Name):
		return fmt.Errorf("lab name %q: want a lower case letter and up to 11 more letters or digits", t.Name)
	case t.Nodes < 1 || t.Nodes > maxNodes:
		return fmt.Errorf("%d nodes: want 1 to %d", t.Nodes, maxNodes)
	case t.Kubernetes != "1.37" && t.Kubernetes != "1.36":
		return fmt.Errorf("kubernetes %q: want 1.37 or 1.36", t.Kubernetes)
	}
	return nil
}

// The address plan, the same in every lab. 198.18.0.0/15 is set aside for such networks (RFC 2544).
const (
	hostPrefix    = "198.18.0.0/24"
	podPrefix     = "198.18.64.0/18"
	servicePrefix = "198.19.0.0/24"
	// serviceAPI is the address of the Service "kubernetes".
	serviceAPI = "198.19.0.1"
)

// The fixed ports of the lab.
const (
	apiPort = 6443
	// kubeletPort is where the real kubelet listens, and what the API server is told.
	kubeletPort = 10260
	// kubeletProxyPort is the well-known kubelet port. A fault proxy listens there.
	kubeletProxyPort = 10250
	consulHTTPPort   = 8500
)

// Fixed host names. Nodes are n1, n2, …; see Topology.nodeNames.
const (
	controlPlane = "cp"
	apiServer    = "kube-apiserver" // a process on it
	clientHost   = "client"
	switchName   = "sw"
)

// consulServers is the number of Consul servers: the smallest that survives the loss of one.
const consulServers = 3

func (t Topology) nodeNames() []string     { return numbered("n", t.Nodes) }
func (t Topology) consulServers() []string { return numbered("consul-", consulServers) }

func numbered(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%d", prefix, i+1)
	}
	return names
}

// hosts lists all hosts of the lab in a fixed order, with their addresses.
func (t Topology) hosts() []*Host {
	var hosts []*Host
	add := func(name string, last byte) *Host {
		h := &Host{Name: name, Addr: netip.AddrFrom4([4]byte{198, 18, 0, last}), Namespace: t.namespace(name)}
		hosts = append(hosts, h)
		return h
	}
	// The second address of the control plane belongs to the API server's fault proxy.
	add(controlPlane, 2).Extra = netip.AddrFrom4([4]byte{198, 18, 0, 3})
	add(clientHost, 9)
	for i, name := range t.consulServers() {
		add(name, byte(11+i))
	}
	for i, name := range t.nodeNames() {
		add(name, byte(21+i)).Pods = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(65 + i), 0}), 24)
	}
	return hosts
}

// namespacePrefix starts the name of every network namespace and cgroup that belongs to a lab.
const namespacePrefix = "fw-"

func (t Topology) namespace(host string) string {
	return namespacePrefix + t.Name + "-" + host
}
