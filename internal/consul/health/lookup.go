package health

import (
	"context"
	"maps"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// Lookup returns all entries of the services on the node, whoever registered
// them, as the leader holds them now. What it does not hold is absent only if
// there is no error in the answer.
func (p *Prover) Lookup(ctx context.Context, services []string) succession.Servers {
	node, err := p.node.NodeName(ctx)
	if err != nil {
		return succession.Servers{Unknown: consul.Reason(err)}
	}
	found := make([]map[string]succession.Standing, len(services))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, name := range services {
		group.Go(func() (err error) {
			found[i], err = p.standings(ctx, name, node)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return succession.Servers{Unknown: consul.Reason(err)}
	}
	held := map[string]succession.Standing{}
	for _, standings := range found {
		maps.Copy(held, standings)
	}
	return succession.Servers{Held: held}
}

func (p *Prover) standings(ctx context.Context, name, node string) (map[string]succession.Standing, error) {
	entries, _, err := p.query(ctx, name, node, nil, false)
	if err != nil {
		return nil, err
	}
	standings := make(map[string]succession.Standing, len(entries))
	for id, entry := range entries {
		standing := succession.Standing{Health: service.Health(entry.Checks.AggregatedStatus())}
		if address, err := netip.ParseAddr(entry.Service.Address); err == nil {
			standing.Address = address
		}
		if port := entry.Service.Port; port > 0 && port <= 65535 {
			standing.Port = uint16(port)
		}
		standings[id] = standing
	}
	return standings, nil
}
