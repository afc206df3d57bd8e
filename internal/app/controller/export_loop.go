package controller

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/kube/services"
)

// shardRegistries are those of a cluster, by number.
func shardRegistries(client *consul.Client, cluster string) ([]shardRegistry, error) {
	var all []shardRegistry
	for number := range export.Shards {
		registry, err := catalog.New(catalog.Options{
			Client: client, Cluster: cluster, Node: export.ShardName(number), Placeless: true,
		})
		if err != nil {
			return nil, fmt.Errorf("shard %d: %w", number, err)
		}
		all = append(all, registry)
	}
	return all, nil
}

// leasePermission reads what a person has written on the controllers' Lease.
type leasePermission struct {
	client    kubernetes.Interface
	namespace string
}

func (l leasePermission) allowance(ctx context.Context) (string, error) {
	lease, err := l.client.CoordinationV1().Leases(l.namespace).Get(ctx, leaseName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("read Lease %s: %w", leaseName, err)
	}
	return lease.Annotations[allowRemovals], nil
}

// exports makes the loop that publishes Services.
func (c *Controller) exports(leader *leadership, board *board, stop *process.StopStack) (loop, error) {
	registries, err := shardRegistries(c.consul, c.opts.ClusterID)
	if err != nil {
		return loop{}, err
	}
	policy := c.opts.policy(c.opts.ClusterID)
	source := services.New(c.kube, c.custom, services.Options{
		NamespaceLabels: !policy.Namespaces.Empty(), Ingress: policy.Ingress, Gateway: policy.Gateway,
	})
	events := services.NewEvents(c.kube)
	stop.Push(process.Step{Name: "events on Services", Within: time.Second, Do: func(context.Context) error { events.Close(); return nil }})
	e := newExporter(exporter{
		source: source, leader: leader, leads: leader.begins(), events: events,
		permits: leasePermission{c.kube, c.opts.PodNamespace},
		report:  board.loop("the entries of Services have not been read from Consul yet"),
		log:     c.log.With("component", "export"), metrics: newExportMetrics(c.registry), pulse: process.NewPulse("export", stuckAfter),
		maxShare: c.opts.MaxRemovalShare, resync: c.opts.ExportResync,
	}, registries, policy)
	return loop{e.pulse, []process.Part{{Name: "service sources", Do: source.Run}, {Name: "export", Do: e.run}}}, nil
}
