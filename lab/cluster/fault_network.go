package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// CutLink unplugs a host's cable at the switch. Undo plugs it in again.
func (c *Cluster) CutLink(ctx context.Context, host string) (Undo, error) {
	if err := c.setLink(ctx, host, "down"); err != nil {
		return nil, fmt.Errorf("cut link of %s: %w", host, err)
	}
	return func(ctx context.Context) error { return c.setLink(ctx, host, "up") }, nil
}

func (c *Cluster) setLink(ctx context.Context, host, state string) error {
	port, err := c.switchPort(host)
	if err != nil {
		return err
	}
	return ipBatch(ctx, c.switchHost().Namespace, "link set "+port+" "+state+"\n")
}

// DelayLink makes every packet to the host late by d. It needs a kernel with the packet scheduler
// "netem", and says so where there is none.
func (c *Cluster) DelayLink(ctx context.Context, host string, d time.Duration) (Undo, error) {
	port, err := c.switchPort(host)
	if err != nil {
		return nil, err
	}
	_, err = c.onSwitch(ctx, "tc", "qdisc", "add", "dev", port, "root", "netem", "delay", fmt.Sprintf("%dus", d.Microseconds()))
	if err != nil && strings.Contains(err.Error(), "qdisc kind is unknown") {
		return nil, fmt.Errorf("delay link of %s: this kernel lacks the packet scheduler netem", host)
	}
	if err != nil {
		return nil, fmt.Errorf("delay link of %s: %w", host, err)
	}
	done := false
	return func(ctx context.Context) error {
		if done {
			return nil
		}
		_, err := c.onSwitch(ctx, "tc", "qdisc", "del", "dev", port, "root")
		done = err == nil
		return err
	}, nil
}

// Partition drops all packets between the hosts in a and those in b, in both directions. Packets of a
// node's pods count as the node's. Undo lets them through again.
func (c *Cluster) Partition(ctx context.Context, a, b []string) (Undo, error) {
	portsA, err := c.switchPorts(a)
	if err != nil {
		return nil, fmt.Errorf("partition: %w", err)
	}
	portsB, err := c.switchPorts(b)
	if err != nil {
		return nil, fmt.Errorf("partition: %w", err)
	}
	// Each partition is a table of its own, so that several can be in force and end in any order.
	table := "partition_" + strings.ReplaceAll(newUUID(), "-", "_")
	if err := c.nft(ctx, partitionRules(table, portsA, portsB)); err != nil {
		return nil, fmt.Errorf("partition %v from %v: %w", a, b, err)
	}
	return func(ctx context.Context) error {
		// To declare the table first makes a second call harmless.
		return c.nft(ctx, fmt.Sprintf("table bridge %s\ndelete table bridge %s\n", table, table))
	}, nil
}

// partitionRules is the rule set that the switch's bridge is to follow between ports of its own.
func partitionRules(table string, a, b []string) string {
	setA, setB := `"`+strings.Join(a, `", "`)+`"`, `"`+strings.Join(b, `", "`)+`"`
	var rules strings.Builder
	fmt.Fprintf(&rules, "table bridge %s {\n\tchain forward {\n\t\ttype filter hook forward priority 0;\n", table)
	fmt.Fprintf(&rules, "\t\tiifname { %s } oifname { %s } drop\n", setA, setB)
	fmt.Fprintf(&rules, "\t\tiifname { %s } oifname { %s } drop\n\t}\n}\n", setB, setA)
	return rules.String()
}

func (c *Cluster) nft(ctx context.Context, rules string) error {
	cmd := c.switchHost().Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	_, err := runCmd(cmd)
	return err
}

func (c *Cluster) onSwitch(ctx context.Context, path string, args ...string) (string, error) {
	return runCmd(c.switchHost().Command(ctx, path, args...))
}

// switchHost is the namespace of the switch. It is no host: it has no address.
func (c *Cluster) switchHost() *Host {
	return &Host{Name: switchName, Namespace: Topology{Name: c.network()}.namespace(switchName)}
}

// switchPort is the switch's end of a host's cable.
func (c *Cluster) switchPort(host string) (string, error) {
	h := c.Host(host)
	if h == nil {
		return "", fmt.Errorf("lab %s has no host %q", c.Name, host)
	}
	return h.port, nil
}

func (c *Cluster) switchPorts(hosts []string) ([]string, error) {
	var ports []string
	for _, host := range hosts {
		port, err := c.switchPort(host)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}
