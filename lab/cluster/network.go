package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// bridgeName is the switch's bridge; podBridge is the one a node's pods are attached to.
const (
	bridgeName = "br0"
	podBridge  = "pods"
)

// buildNetwork makes the namespaces of all hosts and joins them on the lab's switch, or on that of the
// lab that it joins.
func (c *Cluster) buildNetwork(ctx context.Context) error {
	own := c.Topology.hosts()
	var others []*Host
	var names strings.Builder
	if c.Join == "" {
		fmt.Fprintf(&names, "netns add %s\n", c.switchHost().Namespace)
	} else {
		other, err := Open(c.Join)
		if err != nil {
			return err
		}
		others = other.Topology.hosts()
	}
	for _, h := range own {
		fmt.Fprintf(&names, "netns add %s\n", h.Namespace)
	}
	if err := ipBatch(ctx, "", names.String()); err != nil {
		return err
	}
	cables := cableScript(own)
	if c.Join == "" {
		cables = bridgeScript + cables
	}
	if err := ipBatch(ctx, c.switchHost().Namespace, cables); err != nil {
		return err
	}
	for _, h := range own {
		if err := ipBatch(ctx, h.Namespace, hostScript(h, c.servicePrefix())+routeScript(h, own)+routeScript(h, others)); err != nil {
			return err
		}
		if h.Pods.IsValid() {
			if err := enableForwarding(h.Namespace); err != nil {
				return err
			}
		}
		if h.resolv != "" {
			if err := c.writeResolvers(h.resolv); err != nil {
				return err
			}
		}
	}
	for _, h := range others {
		if err := ipBatch(ctx, h.Namespace, routeScript(h, own)); err != nil {
			return err
		}
	}
	return nil
}

// bridgeScript is the batch for ip(8) that makes the switch's bridge.
const bridgeScript = "link set lo up\nlink add " + bridgeName + " type bridge\nlink set " + bridgeName + " up\n"

// cableScript is the batch that makes a cable from the switch to each host, whose end is eth0.
func cableScript(hosts []*Host) string {
	var b strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&b, "link add %s type veth peer name eth0 netns %s\n", h.port, h.Namespace)
		fmt.Fprintf(&b, "link set %s master %s up\n", h.port, bridgeName)
	}
	return b.String()
}

// hostScript is the batch that gives h its addresses, and a node a route to its cluster's Services.
func hostScript(h *Host, services netip.Prefix) string {
	var b strings.Builder
	b.WriteString("link set lo up\nlink set eth0 up\n")
	fmt.Fprintf(&b, "addr add %s/%d dev eth0\n", h.Addr, hostBits)
	if h.Extra.IsValid() {
		fmt.Fprintf(&b, "addr add %s/%d dev eth0\n", h.Extra, hostBits)
	}
	if h.Pods.IsValid() {
		// A process of the node itself needs some route before kube-proxy's rules may redirect it.
		fmt.Fprintf(&b, "route add %s dev eth0 src %s\n", services, h.Addr)
	}
	return b.String()
}

// routeScript is the batch that gives h its routes to the pods of all nodes but itself. It may find
// them there: a lab that had joined, and is down, has left them.
func routeScript(h *Host, nodes []*Host) string {
	var b strings.Builder
	for _, node := range nodes {
		if node.Pods.IsValid() && node.Addr != h.Addr {
			fmt.Fprintf(&b, "route replace %s via %s\n", node.Pods, node.Addr)
		}
	}
	return b.String()
}

func enableForwarding(namespace string) error {
	return inNamespace(namespace, func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	})
}

// removeNamespaces deletes every namespace of the named lab, and with them its links and rules.
func removeNamespaces(ctx context.Context, lab string) error {
	names, err := labNamespaces(lab)
	if err != nil || len(names) == 0 {
		return err
	}
	return ipBatch(ctx, "", "netns del "+strings.Join(names, "\nnetns del ")+"\n")
}

// namespaceDir is where ip(8) keeps namespaces by name.
const namespaceDir = "/run/netns"

func labNamespaces(lab string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(namespaceDir, namespacePrefix+lab+"-*"))
	if err != nil {
		return nil, err
	}
	for i, p := range paths {
		paths[i] = filepath.Base(p)
	}
	return paths, nil
}

// ipBatch runs a batch of ip(8) commands, in a namespace if one is named.
func ipBatch(ctx context.Context, namespace, script string) error {
	args := []string{"-batch", "-"}
	if namespace != "" {
		args = append([]string{"-netns", namespace}, args...)
	}
	return runInput(ctx, script, "ip", args...)
}
