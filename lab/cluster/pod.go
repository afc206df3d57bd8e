package cluster

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
)

// Pod returns the network namespace of the node's pod that has the address, as a host to dial from.
func (c *Cluster) Pod(node string, ip netip.Addr) (*Host, error) {
	namespaces, err := filepath.Glob(c.path(node, "containerd", "state", "*", "netns", "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range namespaces {
		var addresses []net.Addr
		err := inNamespace(path, func() (err error) {
			addresses, err = net.InterfaceAddrs()
			return err
		})
		if err != nil {
			continue // of a pod that has just ended
		}
		for _, a := range addresses {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == ip {
				return &Host{Name: "pod " + ip.String(), Addr: ip, Namespace: path}, nil
			}
		}
	}
	return nil, fmt.Errorf("no pod on %s has the address %s", node, ip)
}
