package matrix

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// Fault is one thing that can happen to a fleet.
type Fault struct {
	Name string
	// Hold is how long it lasts, Short how long where there is little time.
	// Zero is a fault that is over when Inject returns.
	Hold, Short time.Duration
	// Node is the node that is taken down with all that runs on it; empty for
	// all other faults.
	Node string
	// Writes says that Consul's catalog must change on account of the fault
	// itself, and why. Where it is empty, not one write may be caused.
	Writes string
	// Gossip says that Consul's members cannot reach each other. They may take a
	// node for dead that is not, also for half a minute after: with as few as a lab
	// has nobody may be left to vouch for it.
	Gossip bool
	// Inject puts it in force. The Undo may be nil.
	Inject func(ctx context.Context, f *Fleet) (cluster.Undo, error)
}

const (
	long  = 2 * time.Minute
	short = 8 * time.Second
)

// Faults are all that can happen to a Fairway with that registry, in the order
// in which they are tried: the gentle ones first, and those whose mark on
// Consul's members outlasts them last.
func Faults(registry workload.Registry) []Fault {
	faults := []Fault{
		{Name: "agents killed", Inject: eachNode(func(ctx context.Context, f *Fleet, node string) error {
			return f.Lab.KillContainer(ctx, node, "agent")
		})},
		{Name: "agents upgraded by a DaemonSet rollout", Inject: upgradeAgents},
		{Name: "an agent paused", Hold: 30 * time.Second, Short: short, Inject: func(ctx context.Context, f *Fleet) (cluster.Undo, error) {
			return f.Lab.PauseContainer(ctx, "n1", "agent")
		}},
		{Name: "kubelets restarted", Inject: eachNode(func(ctx context.Context, f *Fleet, node string) error {
			return f.Lab.Restart(ctx, node+"/kubelet")
		})},
	}
	for _, mode := range []string{"403", "empty", "garbage", "hang"} {
		faults = append(faults, Fault{Name: "kubelet API answers " + mode, Hold: 30 * time.Second, Short: short / 4,
			Inject: func(ctx context.Context, f *Fleet) (cluster.Undo, error) { return f.Lab.KubeletFault(ctx, "n1", mode) }})
	}
	faults = append(faults, Fault{Name: "API server down", Hold: long, Short: short, Inject: killProcesses("cp/kube-apiserver")})
	if registry == workload.ConsulAgents {
		faults = append(faults, consulAgentFaults()...)
	}
	faults = append(faults,
		Fault{Name: "Fairway's Consul token revoked and replaced", Hold: 30 * time.Second, Short: short, Inject: replaceToken},
		Fault{Name: "Consul's leader killed", Hold: 20 * time.Second, Short: short, Gossip: true, Inject: killLeader},
		Fault{Name: "all Consul servers down", Hold: long, Short: short, Gossip: true,
			Inject: killProcesses("consul-1/consul", "consul-2/consul", "consul-3/consul")},
		Fault{Name: "a Consul server cut off", Hold: 30 * time.Second, Short: short, Gossip: true, Inject: func(ctx context.Context, f *Fleet) (cluster.Undo, error) {
			return f.Lab.CutLink(ctx, "consul-3")
		}},
		Fault{Name: "a node cut off from the Consul servers", Hold: 30 * time.Second, Short: short, Gossip: true, Inject: func(ctx context.Context, f *Fleet) (cluster.Undo, error) {
			return f.Lab.Partition(ctx, []string{"n1"}, []string{"consul-1", "consul-2", "consul-3"})
		}},
	)
	if registry == workload.ConsulAgents { // without client agents nobody notices yet that a node has died
		faults = append(faults, Fault{Name: "a node killed", Hold: 30 * time.Second, Short: 2 * short, Node: "n2", Gossip: true, Writes: "the node's own health, and that of its pods",
			Inject: func(ctx context.Context, f *Fleet) (cluster.Undo, error) { return f.Lab.KillNode(ctx, "n2") }})
	}
	return faults
}

// consulAgentFaults are those of the nodes' Consul client agents.
func consulAgentFaults() []Fault {
	return []Fault{
		{Name: "Consul agents restarted", Inject: eachNode(func(ctx context.Context, f *Fleet, node string) error {
			return f.Lab.Restart(ctx, node+"/consul")
		})},
		{Name: "a Consul agent wiped", Writes: "its entries are registered again", Inject: func(ctx context.Context, f *Fleet) (cluster.Undo, error) {
			_, err := f.Lab.WipeConsulAgent(ctx, "n1")
			return nil, err
		}},
	}
}

// eachNode does something to one node after the other.
func eachNode(do func(context.Context, *Fleet, string) error) func(context.Context, *Fleet) (cluster.Undo, error) {
	return func(ctx context.Context, f *Fleet) (cluster.Undo, error) {
		for _, node := range f.Lab.Nodes() {
			if err := do(ctx, f, node); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

// killProcesses kills servers; they are started again together.
func killProcesses(ids ...string) func(context.Context, *Fleet) (cluster.Undo, error) {
	return func(ctx context.Context, f *Fleet) (cluster.Undo, error) {
		var undos []cluster.Undo
		for _, id := range ids {
			undo, err := f.Lab.Kill(ctx, id)
			if err != nil {
				return nil, err
			}
			undos = append(undos, undo)
		}
		return func(ctx context.Context) error {
			var errs []error
			for _, undo := range undos {
				errs = append(errs, undo(ctx))
			}
			return errors.Join(errs...)
		}, nil
	}
}

func killLeader(ctx context.Context, f *Fleet) (cluster.Undo, error) {
	host, err := f.leader(ctx)
	if err != nil {
		return nil, err
	}
	return f.Lab.Kill(ctx, host+"/consul")
}

// upgradeAgents changes the DaemonSet's template, as an upgrade does.
func upgradeAgents(ctx context.Context, f *Fleet) (cluster.Undo, error) {
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"upgraded":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	_, err := f.Kube.AppsV1().DaemonSets(workload.Namespace).Patch(ctx, workload.AgentName, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return nil, fmt.Errorf("upgrade the agents: %w", err)
	}
	return nil, nil
}

// replaceToken revokes Fairway's Consul token; what ends that is another one in
// the Secret that the agents read.
func replaceToken(ctx context.Context, f *Fleet) (cluster.Undo, error) {
	name := f.registry.Token()
	if _, err := f.Lab.RevokeToken(ctx, f.Lab.ConsulAccessor(name)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := f.Lab.ReplaceToken(ctx, name); err != nil {
			return err
		}
		return workload.SetToken(ctx, f.Lab, f.Kube, f.registry)
	}, nil
}
