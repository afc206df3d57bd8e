package cluster

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
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
	// DNS gives the cluster a DNS, CoreDNS, which pods ask unless their dnsPolicy says otherwise. It knows
	// Services, and asks the Consul servers for names below consul. Without it pods have their node's
	// resolver: the Consul servers.
	DNS bool `json:"dns,omitempty"`
	// Join is the name of a running lab whose network and Consul servers this one uses instead of its
	// own: two Kubernetes clusters and one Consul. All else, authorities included, is its own.
	Join string `json:"join,omitempty"`
}

// Default is the lab most tests want: two nodes, the newest Kubernetes, Consul agents.
func Default(name string) Topology {
	return Topology{Name: name, Nodes: 2, Kubernetes: "1.37", ConsulAgents: true}
}

// Joining is the smallest lab that joins another one: a Kubernetes cluster of one node.
func Joining(name, other string) Topology {
	return Topology{Name: name, Nodes: 1, Kubernetes: "1.37", Join: other}
}

// maxNodes keeps the pods' networks below those of a lab that joins.
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
	case t.Join == t.Name:
		return fmt.Errorf("lab %s cannot join itself", t.Name)
	case t.Join != "" && !validName.MatchString(t.Join):
		return fmt.Errorf("lab to join %q: no lab has such a name", t.Join)
	case t.Join != "" && t.ConsulAgents:
		// Servers that start again must know the client agents first (see consulConfig), and those of
		// the other lab do not know these.
		return fmt.Errorf("lab %s joins another: its nodes cannot have Consul agents", t.Name)
	}
	return nil
}

// The address plan is the same in every lab, and another one in the lab that joins it, so that any
// host or pod reaches any other without translation. 198.18.0.0/15 is set aside for such networks
// (RFC 2544).

// hostBits is the prefix length of the network of all hosts, 198.18.0.0, of both labs.
const hostBits = 18

// half is 0, or 1 for a lab that joins another: it decides its part of each network.
func (t Topology) half() byte {
	if t.Join != "" {
		return 1
	}
	return 0
}

func (t Topology) hostAddr(last byte) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, t.half(), last})
}

// pods is the network of the pods of a node, by the node's place in the list: within 198.18.64.0/18, or
// 198.18.128.0/18.
func (t Topology) pods(node int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 64*(1+t.half()) + 1 + byte(node), 0}), 24)
}

// servicePrefix is where the Services' addresses are. They mean something to the lab's own nodes only.
func (t Topology) servicePrefix() netip.Prefix { return netip.PrefixFrom(t.serviceAddr(0), 24) }

func (t Topology) serviceAddr(last byte) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 19, t.half(), last})
}

// serviceAPI and serviceDNS are the addresses of the Services "kubernetes" and "kube-dns".
func (t Topology) serviceAPI() netip.Addr { return t.serviceAddr(1) }
func (t Topology) serviceDNS() netip.Addr { return t.serviceAddr(10) }

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
		h := &Host{Name: name, Addr: t.hostAddr(last), Namespace: t.namespace(name), port: t.port(name)}
		hosts = append(hosts, h)
		return h
	}
	// The second address of the control plane belongs to the API server's fault proxy.
	add(controlPlane, 2).Extra = t.hostAddr(3)
	add(clientHost, 9).resolv = filepath.Join(StateDir, t.Name, clientHost, "resolv.conf")
	if t.Join == "" {
		for i, name := range t.consulServers() {
			add(name, byte(11+i))
		}
	}
	for i, name := range t.nodeNames() {
		add(name, byte(21+i)).Pods = t.pods(i)
	}
	return hosts
}

// known are the hosts that can be asked for by name: those of the lab, and the Consul servers of the
// lab that it joins.
func (t Topology) known() []*Host {
	if t.Join == "" {
		return t.hosts()
	}
	others := slices.DeleteFunc(Topology{Name: t.Join}.hosts(), func(h *Host) bool {
		return !slices.Contains(t.consulServers(), h.Name)
	})
	return append(t.hosts(), others...)
}

// network is the name of the lab whose switch the hosts are on.
func (t Topology) network() string { return cmp.Or(t.Join, t.Name) }

// port is the switch's end of a host's cable. Two labs have hosts of the same names.
func (t Topology) port(host string) string {
	if t.Join != "" {
		return "joined-" + host
	}
	return host
}

// namespacePrefix starts the name of every network namespace and cgroup that belongs to a lab.
const namespacePrefix = "fw-"

func (t Topology) namespace(host string) string {
	return namespacePrefix + t.Name + "-" + host
}
