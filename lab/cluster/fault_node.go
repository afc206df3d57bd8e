package cluster

import (
	"context"
	"fmt"
	"slices"
	"syscall"
)

// nodeProcesses is the order in which a node's servers are started again; others come after them.
var nodeProcesses = []string{"containerd", "consul", "kubelet", "kube-proxy", faultProxy}

// KillNode ends a node as a power cut does: from one moment to the next nothing on it answers, and all
// that ran there has ended, containers too. Undo starts the node again with what is on its disk.
func (c *Cluster) KillNode(ctx context.Context, node string) (Undo, error) {
	host := c.Host(node)
	if host == nil || !host.Pods.IsValid() {
		return nil, fmt.Errorf("kill node: lab %s has no node %q", c.Name, node)
	}
	// The cable first: nobody is to hear of what dies after it.
	plugIn, err := c.CutLink(ctx, node)
	if err != nil {
		return nil, err
	}
	processes, err := c.processesOn(node)
	if err != nil {
		return nil, err
	}
	for _, p := range processes {
		if err := p.signal(syscall.SIGKILL); err != nil {
			return nil, err
		}
	}
	if err := killInside(ctx, []string{host.Namespace}, c.path(node)); err != nil {
		return nil, fmt.Errorf("kill node %s: %w", node, err)
	}
	return func(ctx context.Context) error {
		if err := plugIn(ctx); err != nil {
			return err
		}
		for _, p := range processes {
			if err := c.Start(ctx, p.ID()); err != nil {
				return fmt.Errorf("start node %s again: %w", node, err)
			}
		}
		return nil
	}, nil
}

// processesOn are the servers of one host in the order of their start.
func (c *Cluster) processesOn(host string) ([]*Process, error) {
	all, err := c.Processes()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(p *Process) bool { return p.Host != host })
	place := func(p *Process) int {
		if i := slices.Index(nodeProcesses, p.Name); i >= 0 {
			return i
		}
		return len(nodeProcesses)
	}
	slices.SortStableFunc(all, func(a, b *Process) int { return place(a) - place(b) })
	return all, nil
}
