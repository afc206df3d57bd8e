package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
)

// StartVM runs a service that Kubernetes knows nothing of: the sample app on the
// lab's client host, whose resolvers are the Consul servers, in Consul's catalog
// as an external service. It is a process like the lab's others, client/vm, and
// there is room for one. Undo ends it and takes it out of the catalog.
func StartVM(ctx context.Context, lab *cluster.Cluster, service string, out io.Writer) (cluster.Undo, error) {
	set, err := images.Ensure(ctx, out)
	if err != nil {
		return nil, err
	}
	host, node := lab.Host("client"), lab.ConsulName("vm")
	address := netip.AddrPortFrom(host.Addr, 8080)
	stop, err := lab.Run(ctx, &cluster.Process{
		Host: host.Name, Name: "vm", Address: address.String(),
		Args: []string{set.SampleProgram, "--listen=" + address.String()},
		Env:  []string{"POD_NAME=" + service}, // by which it answers
	})
	if err != nil {
		return nil, fmt.Errorf("start VM %s: %w", service, err)
	}
	catalog := lab.ConsulServers()[0].Catalog()
	_, err = catalog.Register(&api.CatalogRegistration{
		Node: node, Address: host.Addr.String(), NodeMeta: map[string]string{"external-node": "true"},
		Service: &api.AgentService{ID: service, Service: service, Port: int(address.Port())},
		Check:   &api.AgentCheck{CheckID: service, Name: service, ServiceID: service, Status: api.HealthPassing},
	}, new(api.WriteOptions).WithContext(ctx))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("register VM %s: %w", service, err), stop(context.WithoutCancel(ctx)))
	}
	return func(ctx context.Context) error {
		_, err := catalog.Deregister(&api.CatalogDeregistration{Node: node}, new(api.WriteOptions).WithContext(ctx))
		return errors.Join(err, stop(ctx))
	}, nil
}
