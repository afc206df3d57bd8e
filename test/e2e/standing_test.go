package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/service"
)

// standing is how an entry stands in Consul. Two that are equal mean that nobody has
// written it in between: not even for a moment was it gone, or had another health.
type standing struct {
	Cluster, Service string // what published it, if Fairway did
	Address          string
	Health           string
	Made             uint64 // the index at which it was
	Written          uint64 // and the service itself last
	Checked          uint64 // and its checks
}

// standings are those of the entries of a service, by node and ID.
type standings map[string]standing

func stand(ctx context.Context, name string) (standings, error) {
	var list []*api.ServiceEntry
	var err error
	for _, server := range fleet.consul { // one may be away
		q := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
		if list, _, err = server.Health().Service(name, "", false, q); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	all := standings{}
	for _, e := range list {
		address := e.Service.Address
		if address == "" {
			address = e.Node.Address
		}
		s := standing{
			Cluster: e.Service.Meta[service.MetaCluster], Service: e.Service.Meta[service.MetaService],
			Address: address, Health: e.Checks.AggregatedStatus(),
			Made: e.Service.CreateIndex, Written: e.Service.ModifyIndex,
		}
		for _, check := range e.Checks {
			if check.ServiceID != "" {
				s.Checked = max(s.Checked, check.ModifyIndex)
			}
		}
		all[e.Node.Node+" "+e.Service.ID] = s
	}
	return all, nil
}

// stands are the standings now.
func stands(t *testing.T, name string) standings {
	t.Helper()
	all, err := stand(bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// but are all of them that the filter does not name.
func (s standings) but(filter func(standing) bool) standings {
	rest := maps.Clone(s)
	maps.DeleteFunc(rest, func(_ string, one standing) bool { return filter(one) })
	return rest
}

// addresses are those that clients are given, in order, of all but those that the
// filter names.
func (s standings) addresses(filter func(standing) bool) (passing []string) {
	for _, one := range s.but(filter) {
		if one.Health == api.HealthPassing {
			passing = append(passing, one.Address)
		}
	}
	slices.Sort(passing)
	return passing
}

// serving waits until a service has so many entries, and all of them pass.
func serving(t *testing.T, name string, n int) standings {
	t.Helper()
	return waitStandings(t, name, fmt.Sprintf("%s has %d passing instances", name, n), func(now standings) bool {
		return len(now) == n && len(now.addresses(func(standing) bool { return false })) == n
	})
}

// untouched fails if one of those that stood before stands differently now. Others
// may have come.
func (s standings) untouched(t *testing.T, name string) {
	t.Helper()
	now := stands(t, name)
	maps.DeleteFunc(now, func(key string, _ standing) bool { _, known := s[key]; return !known })
	if diff := cmp.Diff(s, now); diff != "" {
		t.Errorf("entries of %s and the indexes of their last writes (-before +now):\n%s", name, diff)
	}
}

// waitStandings waits until the entries of a service are as they should be, and
// returns them.
func waitStandings(t *testing.T, name, what string, cond func(standings) bool) (now standings) {
	t.Helper()
	until(t, what, func(ctx context.Context) (done bool, state string, err error) {
		now, err = stand(ctx, name)
		return err == nil && cond(now), fmt.Sprint(now), err
	})
	return now
}
