package discovery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consulimport"
)

// peeringWithin is how long Consul may take to tell of a peering. A token that has
// no right to it gets no answer at all.
const peeringWithin = 3 * time.Second

// question is a service whose instances are asked for; without a name it is which
// services there are.
type question consulimport.Origin

// listing tells whether the question is which services there are.
func (q question) listing() bool { return q.Name == "" }

// polled tells whether Consul cannot hold the question.
func (q question) polled() bool { return q.listing() && q.Peer != "" }

// reply is the answer to a question.
type reply struct {
	consulimport.Read
	names     []string
	instances []consulimport.Instance
}

// ask asks for what is news since an index, which Consul holds for that time at
// most; at index 0 for what is so now. An error means that no usable answer came.
func ask(ctx context.Context, client *consul.Client, q question, index uint64, hold time.Duration) (reply, error) {
	opts := (&api.QueryOptions{
		Datacenter: q.Datacenter, Peer: q.Peer, Namespace: q.Namespace, Partition: q.Partition,
		RequireConsistent: true, Near: "_agent", WaitIndex: index, WaitTime: hold,
	}).WithContext(ctx)
	switch {
	case q.polled():
		return askPeer(ctx, client, q, opts)
	case q.listing():
		return askNames(client, opts)
	}
	r, err := askInstances(client, q, opts)
	if err == nil && q.Peer != "" && len(r.instances) == 0 {
		// Of a peer that it does not know, or not any more, Consul says the same.
		_, err = askPeer(ctx, client, q, opts)
	}
	return r, err
}

func askNames(client *consul.Client, opts *api.QueryOptions) (reply, error) {
	services, meta, err := client.Catalog().Services(opts)
	if err == nil && services == nil {
		err = consul.Unusable("no list of services")
	}
	if err != nil {
		return reply{}, consul.Classify(err)
	}
	return reply{Read: readOf(meta), names: slices.Sorted(maps.Keys(services))}, nil
}

func askInstances(client *consul.Client, q question, opts *api.QueryOptions) (reply, error) {
	entries, meta, err := client.Health().Service(q.Name, "", false, opts)
	if err == nil && entries == nil {
		err = consul.Unusable("no list of instances")
	}
	if err != nil {
		return reply{}, consul.Classify(err)
	}
	r := reply{Read: readOf(meta), instances: make([]consulimport.Instance, 0, len(entries))}
	for _, entry := range entries {
		if entry == nil || entry.Service == nil || entry.Node == nil || slices.Contains(entry.Checks, nil) {
			return reply{}, consul.Unusable("an instance without service, node or check")
		}
		r.instances = append(r.instances, instanceOf(entry))
	}
	slices.SortFunc(r.instances, func(a, b consulimport.Instance) int { // the order is by distance, which changes
		return strings.Compare(a.Node+"\x00"+a.ID, b.Node+"\x00"+b.ID)
	})
	return r, nil
}

// askPeer asks for the names of a cluster peer's services. It is an error if the
// peering is not at work: then they may lack some, or all.
func askPeer(ctx context.Context, client *consul.Client, q question, opts *api.QueryOptions) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, peeringWithin)
	defer cancel()
	peering, _, err := client.Peerings().Read(ctx, q.Peer, &api.QueryOptions{RequireConsistent: true, Partition: opts.Partition})
	switch {
	case err != nil:
		return reply{}, unknown(fmt.Sprintf("Consul says nothing of the peering with %q: %s (to a token without the right to read peerings it gives no answer)",
			q.Peer, consul.Reason(consul.Classify(err))))
	case peering == nil:
		return reply{}, unknown(fmt.Sprintf("Consul has no cluster peer %q", q.Peer))
	case peering.State != api.PeeringStateActive:
		return reply{}, unknown(fmt.Sprintf("the peering with %q is not active in Consul: %s", q.Peer, strings.ToLower(string(peering.State))))
	}
	names := slices.Sorted(slices.Values(peering.StreamStatus.ImportedServices))
	return reply{Read: consulimport.Read{Index: peering.ModifyIndex}, names: names}, nil
}

func readOf(meta *api.QueryMeta) consulimport.Read {
	return consulimport.Read{
		Index: meta.LastIndex, Filtered: meta.ResultsFilteredByACLs, Stale: !meta.KnownLeader || meta.LastContact > 0,
	}
}

// unknown is why an answer proves nothing, in words for people.
type unknown string

func (u unknown) Error() string { return string(u) }

// words say why no usable answer came. They stay the same as long as the cause does.
func words(q question, err error) string {
	if u, ok := errors.AsType[unknown](err); ok {
		return string(u)
	}
	var status api.StatusError
	if errors.As(err, &status) && strings.Contains(status.Body, "No path to datacenter") {
		return fmt.Sprintf("Consul has no path to datacenter %q", q.Datacenter)
	}
	return consul.Reason(err)
}

// sameAs tells whether a reply says what another one said. That the index has moved
// on is no news, that it went back is.
func (r reply) sameAs(before reply) bool {
	return r.Problem == before.Problem && r.Filtered == before.Filtered && r.Stale == before.Stale && r.Index >= before.Index &&
		slices.Equal(r.names, before.names) && reflect.DeepEqual(r.instances, before.instances)
}
