package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"fairway.dev/fairway/lab/faultproxy/fault"
)

// faultProxy is the name of the program, and of the process on each host that has one. It stands
// where clients with bearer tokens expect the API server or the kubelet. Clients with certificates,
// the lab's own, go straight to the real server.
const faultProxy = "faultproxy"

// startAPIProxy puts a proxy where the Service "kubernetes" leads.
func (c *Cluster) startAPIProxy(ctx context.Context) error {
	cp := c.Host(controlPlane)
	listen := []netip.AddrPort{netip.AddrPortFrom(cp.Extra, apiPort)}
	return c.startProxy(ctx, cp, "kube-apiserver", listen, c.apiURL())
}

// startKubeletProxy puts a proxy on the well-known port of the node's kubelet.
func (c *Cluster) startKubeletProxy(ctx context.Context, node *Host) error {
	listen := []netip.AddrPort{
		netip.AddrPortFrom(node.Addr, kubeletProxyPort),
		netip.AddrPortFrom(loopback(), kubeletProxyPort),
	}
	kubelet := fmt.Sprintf("https://%s:%d", node.Addr, kubeletPort)
	return c.startProxy(ctx, node, "kubelet-"+node.Name, listen, kubelet)
}

// startProxy starts a proxy that shows the certificate of the server it stands in for.
func (c *Cluster) startProxy(ctx context.Context, h *Host, cert string, listen []netip.AddrPort, upstream string) error {
	args := []string{
		c.bin(faultProxy),
		"--cert=" + c.cert(cert), "--key=" + c.key(cert),
		"--upstream=" + upstream, "--upstream-ca=" + c.cert("ca"),
		"--control=" + c.proxyControl(h.Name),
	}
	for _, addr := range listen {
		args = append(args, "--listen="+addr.String())
	}
	p := &Process{Host: h.Name, Name: faultProxy, Args: args, Address: c.proxyControl(h.Name)}
	if err := c.start(p); err != nil {
		return err
	}
	return c.awaitServers(ctx, "the fault proxy on "+h.Name, []*Process{p}, func(ctx context.Context) error {
		_, err := fault.GetMode(ctx, c.proxyControl(h.Name))
		return err
	})
}

func (c *Cluster) proxyControl(host string) string { return c.path(host, faultProxy+".sock") }

// APIFault makes the API server, as clients with a service account see it, answer in one of the modes
// of package fault: 403, 500, garbage, empty, elsewhere or hang.
func (c *Cluster) APIFault(ctx context.Context, mode string) (Undo, error) {
	return c.proxyFault(ctx, controlPlane, mode)
}

// APIFaultMet returns how many requests have met the API server's proxy since its mode was last
// switched.
func (c *Cluster) APIFaultMet(ctx context.Context) (int, error) {
	return fault.Met(ctx, c.proxyControl(controlPlane))
}

// KubeletFault does the same to a node's kubelet.
func (c *Cluster) KubeletFault(ctx context.Context, node, mode string) (Undo, error) {
	return c.proxyFault(ctx, node, mode)
}

func (c *Cluster) proxyFault(ctx context.Context, host, mode string) (Undo, error) {
	parsed, err := fault.ParseMode(strings.TrimSpace(mode))
	if err != nil {
		return nil, err
	}
	if err := fault.SetMode(ctx, c.proxyControl(host), parsed); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		return fault.SetMode(ctx, c.proxyControl(host), fault.Off)
	}, nil
}
