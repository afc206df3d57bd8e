package cluster

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
)

// Host is one machine of the lab: a network namespace.
type Host struct {
	Name string
	// Addr is the address in the lab's host network.
	Addr netip.Addr
	// Extra is a second address, where the host has one.
	Extra netip.Addr
	// Pods is the network of the pods on this host; only nodes have one.
	Pods netip.Prefix
	// Namespace is the name of the network namespace, as in /run/netns, or its path.
	Namespace string
	// port is the name of the link at the switch.
	port string
	// resolv is the host's /etc/resolv.conf, if it is not the machine's.
	resolv string
}

// Dial connects from inside the host, so that addr is reached, or not, as the host would reach it.
// addr is IP:PORT, or a socket's path; names are not resolved, for the machine would do that.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil && network != "unix" {
		return nil, fmt.Errorf("dial from host %s: %w", h.Name, err)
	}
	var conn net.Conn
	// With an address literal the dialer makes its socket on the calling thread, which is what counts.
	err := inNamespace(h.Namespace, func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dial from host %s: %w", h.Name, err)
	}
	return conn, nil
}

// Command prepares a command that will run inside the host. It shares the machine's files.
func (h *Host) Command(ctx context.Context, path string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", h.enter(path, args...)...)
}

// enter is the argument list with which nsenter(1) starts a program in the host. ip netns exec would
// not do: it mounts a fresh /sys, and kubelet then finds no cgroups.
func (h *Host) enter(path string, args ...string) []string {
	enter := []string{"--net=" + namespacePath(h.Namespace), "--"}
	if h.resolv != "" {
		// The program sees the host's file in the place of the machine's, and no other program does.
		const mount = `mount --bind "$0" /etc/resolv.conf && exec "$@"`
		enter = append(enter, "unshare", "--mount", "--", "sh", "-c", mount, h.resolv)
	}
	return append(append(enter, path), args...)
}

// namespacePath is the file of a network namespace.
func namespacePath(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(namespaceDir, name)
}
