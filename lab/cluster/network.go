package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// bridgeName is the switch's bridge; podBridge is the one a node's pods are attached to.
const (
	bridgeName = "br0"
	podBridge  = "pods"
)

// buildNetwork makes the namespaces of all hosts and joins them on the lab's switch.
func (c *Cluster) buildNetwork(ctx context.Context) error {
	sw := c.namespace(switchName)
	var names strings.Builder
	fmt.Fprintf(&names, "netns add %s\n", sw)
	for _, h := range c.hosts {
		fmt.Fprintf(&names, "netns add %s\n", h.Namespace)
	}
	if err := ipBatch(ctx, "", names.String()); err != nil {
		return err
	}
	if err := ipBatch(ctx, sw, switchScript(c.hosts)); err != nil {
		return err
	}
	for _, h := range c.hosts {
		if err := ipBatch(ctx, h.Namespace, hostScript(h, c.hosts)); err != nil {
			return err
		}
		if h.Pods.IsValid() {
			if err := enableForwarding(h.Namespace); err != nil {
				return err
			}
		}
	}
	return nil
}

// switchScript is the batch for ip(8) that makes the bridge and a cable to each host. The switch's
// end of a cable has the host's name, the host's end is eth0.
func switchScript(hosts []*Host) string {
	var b strings.Builder
	b.WriteString("link set lo up\n")
	fmt.Fprintf(&b, "link add %s type bridge\nlink set %s up\n", bridgeName, bridgeName)
	for _, h := range hosts {
		fmt.Fprintf(&b, "link add %s type veth peer name eth0 netns %s\n", h.Name, h.Namespace)
		fmt.Fprintf(&b, "link set %s master %s up\n", h.Name, bridgeName)
	}
	return b.String()
}

// hostScript is the batch that gives h its addresses and its routes to the pods of all other nodes.
func hostScript(h *Host, hosts []*Host) string {
	var b strings.Builder
	b.WriteString("link set lo up\nlink set eth0 up\n")
	fmt.Fprintf(&b, "addr add %s/24 dev eth0\n", h.Addr)
	if h.Extra.IsValid() {
		fmt.Fprintf(&b, "addr add %s/24 dev eth0\n", h.Extra)
	}
	for _, node := range hosts {
		if node.Pods.IsValid() && node.Name != h.Name {
			fmt.Fprintf(&b, "route add %s via %s\n", node.Pods, node.Addr)
		}
	}
	if h.Pods.IsValid() {
		// A process of the node itself needs some route before kube-proxy's rules may redirect it.
		fmt.Fprintf(&b, "route add %s dev eth0 src %s\n", servicePrefix, h.Addr)
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
