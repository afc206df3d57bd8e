package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
)

// The floor is what no agent can beat: one call that registers an instance,
// until a blocking query of the leading server returns it.

const floorService = "bench-floor"

// agentFloor is the floor of registering with the first node's Consul agent.
func agentFloor(ctx context.Context, lab *cluster.Cluster, n int) (quantiles, error) {
	agent := lab.Consul(lab.Nodes()[0]).Agent()
	took, err := timeRegistrations(ctx, lab, n, func(id string) error {
		return agent.ServiceRegisterOpts(&api.AgentServiceRegistration{
			ID: id, Name: floorService, Port: 8080,
			Check: &api.AgentServiceCheck{TTL: "1h", Status: api.HealthPassing},
		}, api.ServiceRegisterOpts{}.WithContext(ctx))
	})
	for i := range took {
		if err := agent.ServiceDeregisterOpts(floorID(i), new(api.QueryOptions).WithContext(ctx)); err != nil {
			return quantiles{}, fmt.Errorf("deregister from the Consul agent: %w", err)
		}
	}
	return summarize(took), err
}

// catalogFloor is the floor of registering with a server, in a transaction.
func catalogFloor(ctx context.Context, lab *cluster.Cluster, n int) (quantiles, error) {
	const node = "bench-floor"
	server := lab.ConsulServers()[0]
	took, err := timeRegistrations(ctx, lab, n, func(id string) error {
		ok, answer, _, err := server.Txn().Txn(api.TxnOps{
			{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{Node: node, Address: "192.0.2.1"}}},
			{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: api.AgentService{ID: id, Service: floorService, Port: 8080}}},
			{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
				Node: node, CheckID: id, Name: "floor", Status: api.HealthPassing, ServiceID: id, ServiceName: floorService,
			}}},
		}, new(api.QueryOptions).WithContext(ctx))
		if err == nil && !ok {
			err = fmt.Errorf("refused: %v", answer.Errors)
		}
		return err
	})
	if err != nil {
		return quantiles{}, err
	}
	_, err = server.Catalog().Deregister(&api.CatalogDeregistration{Node: node}, new(api.WriteOptions).WithContext(ctx))
	return summarize(took), err
}

func floorID(i int) string { return fmt.Sprintf("%s-%d", floorService, i) }

// timeRegistrations times n registrations, one after another.
func timeRegistrations(ctx context.Context, lab *cluster.Cluster, n int, register func(id string) error) ([]time.Duration, error) {
	server, err := timeline.Leader(ctx, lab.ConsulServers())
	if err != nil {
		return nil, err
	}
	_, meta, err := server.Health().Service(floorService, "", true, new(api.QueryOptions).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	var took []time.Duration
	for i, index := 0, meta.LastIndex; i < n; i++ {
		seen := make(chan error, 1)
		var at time.Time
		go func() {
			entries, meta, err := server.Health().Service(floorService, "", true, timeline.Blocking(ctx, index))
			at = time.Now()
			if err == nil {
				if index = meta.LastIndex; len(entries) != i+1 {
					err = fmt.Errorf("the server returns %d instances after %d registrations", len(entries), i+1)
				}
			}
			seen <- err
		}()
		began := time.Now()
		if err := register(floorID(i)); err != nil {
			return took, fmt.Errorf("register an instance: %w", err)
		}
		if err := <-seen; err != nil {
			return took, err
		}
		took = append(took, at.Sub(began))
	}
	return took, nil
}
