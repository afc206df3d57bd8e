package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/timeline"
)

// emptyConsul removes all that an agent has registered, and returns when the
// leading server has none of it.
func (b *agentBench) emptyConsul(ctx context.Context, fleet fleet) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	server, err := timeline.Leader(ctx, b.servers)
	if err != nil {
		return err
	}
	query := new(api.QueryOptions).WithContext(ctx)
	local := b.lab.Consul(b.node).Agent()
	services, err := local.ServicesWithFilterOpts(fmt.Sprintf("%q in Meta", service.MetaCluster), query)
	if err != nil {
		return err
	}
	for id := range services {
		if err := local.ServiceDeregisterOpts(id, query); err != nil {
			return err
		}
	}
	if err := removeNodes(ctx, server); err != nil {
		return err
	}
	for _, app := range fleet.apps() {
		for _, name := range servicesOf(app) {
			if err := awaitNone(ctx, server, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeNodes removes all virtual nodes of Fairway's, with what stands under them.
func removeNodes(ctx context.Context, server *api.Client) error {
	filter := fmt.Sprintf("%q in Meta", service.MetaCluster)
	nodes, _, err := server.Catalog().Nodes((&api.QueryOptions{Filter: filter, RequireConsistent: true}).WithContext(ctx))
	if err != nil {
		return err
	}
	for _, node := range nodes {
		if _, err := server.Catalog().Deregister(&api.CatalogDeregistration{Node: node.Node}, new(api.WriteOptions).WithContext(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// awaitNone waits until the server has no instance of a service.
func awaitNone(ctx context.Context, server *api.Client, name string) error {
	for index := uint64(0); ; {
		entries, meta, err := server.Health().Service(name, "", false, timeline.Blocking(ctx, index))
		if err != nil {
			return fmt.Errorf("wait until Consul has no %s: %w", name, err)
		}
		if len(entries) == 0 {
			return nil
		}
		index = meta.LastIndex
	}
}
