package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/service"
)

// LeaseCheck is the ID of the check that says whether a virtual node's
// Kubernetes node lives. It hides all entries of a node that does not, as
// serfHealth does for the node of a Consul agent.
const LeaseCheck = "fairway-lease"

// metaSynthetic hides a node in Consul's UI, which else counts it as a machine.
const metaSynthetic = "synthetic-node"

// NodeName is the name of the virtual Consul node that stands for a Kubernetes
// node of a cluster: "fairway-CLUSTER-NODE-HASH", at most 63 lower case letters,
// digits and dashes, so that it can be looked up by DNS. The hash keeps apart
// what the rest makes equal. The node's meta holds the names as they are.
func NodeName(cluster, node string) string {
	const longest, hashed = 63, 4
	sum := sha256.Sum256([]byte(cluster + "\x00" + node))
	label := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower("fairway-"+cluster+"-"+node))
	label = label[:min(len(label), longest-1-2*hashed)]
	return strings.TrimRight(label, "-") + "-" + hex.EncodeToString(sum[:hashed])
}

// identity is the virtual node as it should be.
type identity struct {
	cluster string
	node    string // the Kubernetes node
	name    string // the virtual Consul node
	address netip.Addr
	// placeless nodes stand for no machine, and live as long as their cluster does. So
	// they have no lease, unless somebody thinks that the cluster is dead.
	placeless bool
}

// noPlace is the address of virtual nodes that stand for no machine: Consul wants
// one. Nothing can ever be reached at it (RFC 7600), neither a stranger nor, as at a
// loopback address, whoever asks. Clients are never given it: each entry has an
// address of its own.
const noPlace = "192.0.0.8"

func (id identity) definition() api.Node {
	return api.Node{
		Node:    id.name,
		Address: id.address.String(),
		Meta: map[string]string{
			service.MetaCluster: id.cluster,
			service.MetaNode:    id.node,
			service.MetaSource:  "kubernetes",
			metaSynthetic:       "true",
		},
	}
}

func (id identity) lease() api.HealthCheck {
	notes := fmt.Sprintf("Critical if node %s of cluster %s and its Fairway agent are gone.", id.node, id.cluster)
	if id.placeless {
		notes = fmt.Sprintf("Critical if all of cluster %s is gone.", id.cluster)
	}
	return api.HealthCheck{
		Node:    id.name,
		CheckID: LeaseCheck,
		Name:    "Fairway lease",
		Notes:   notes,
		Status:  api.HealthPassing,
	}
}

// Disturbed tells whether a lease is not as its agent keeps it: it was expired,
// or the agent is asked whether it lives.
func Disturbed(lease *api.HealthCheck) bool {
	return lease.Status != api.HealthPassing || lease.Output != ""
}

// owns says why a node of our name is not ours, or nothing if it is (I5).
func (id identity) owns(node *api.Node) error {
	cluster, name := node.Meta[service.MetaCluster], node.Meta[service.MetaNode]
	if cluster == id.cluster && name == id.node {
		return nil
	}
	return &consul.Error{Kind: consul.ErrConflict, Err: fmt.Errorf(
		"consul node %q belongs to cluster %q, node %q; this is cluster %q, node %q", node.Node, cluster, name, id.cluster, id.node)}
}

// nodeOps are what puts the node and its lease right; none if they are.
func (id identity) nodeOps(p picture) api.TxnOps {
	var ops api.TxnOps
	want := id.definition()
	switch {
	case p.node == nil:
		ops = append(ops, &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeCAS, Node: want}})
	case p.node.Address != want.Address || !maps.Equal(p.node.Meta, want.Meta):
		want.ID, want.ModifyIndex = p.node.ID, p.node.ModifyIndex
		ops = append(ops, &api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeCAS, Node: want}})
	}
	if id.placeless && p.lease != nil {
		ops = append(ops, checkOp(api.CheckDeleteCAS, *p.lease))
	}
	if !id.placeless && (p.lease == nil || Disturbed(p.lease)) {
		lease := id.lease()
		if p.lease != nil {
			lease.ModifyIndex = p.lease.ModifyIndex
		}
		ops = append(ops, checkOp(api.CheckCAS, lease))
	}
	return ops
}
