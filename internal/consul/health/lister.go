package health

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// Names are the names of all services of which the servers hold an entry of
// Fairway, of whatever cluster.
func Names(ctx context.Context, client *consul.Client) ([]string, error) {
	return names(ctx, client, "Fairway", "Name == "+strconv.Quote(consul.CheckName))
}

// KatalogNames are the names of all services of which the servers hold an entry
// of katalog-sync.
func KatalogNames(ctx context.Context, client *consul.Client) ([]string, error) {
	return names(ctx, client, "katalog-sync", `ServiceID matches "^katalog-sync_"`)
}

// names are the names of all services with a check that a filter lets through.
func names(ctx context.Context, client *consul.Client, whose, filter string) ([]string, error) {
	opts := (&api.QueryOptions{RequireConsistent: true, Filter: filter}).WithContext(ctx)
	checks, meta, err := client.Health().State(api.HealthAny, opts)
	if err == nil {
		err = consul.Proven(meta)
	}
	if err == nil && checks == nil {
		err = &consul.Error{Kind: consul.ErrUnusable}
	}
	if err != nil {
		return nil, fmt.Errorf("list the services of %s's entries: %w", whose, consul.Classify(err))
	}
	var names []string
	for _, check := range checks {
		names = append(names, check.ServiceName)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// List asks the servers what they hold under each of the names, by consistent
// reads, and returns the listings in the order of the names.
func List(ctx context.Context, client *consul.Client, names []string) []diagnosis.Listing {
	listings := make([]diagnosis.Listing, len(names))
	var group errgroup.Group
	group.SetLimit(parallel)
	for i, name := range names {
		group.Go(func() error {
			listings[i] = list(ctx, client, name)
			return nil // what is not known of one name says so
		})
	}
	_ = group.Wait()
	return listings
}

func list(ctx context.Context, client *consul.Client, name string) diagnosis.Listing {
	entries, index, err := query(ctx, client, name, "", false)
	if err != nil {
		return diagnosis.Listing{Service: name, Problem: err.Error()}
	}
	listing := diagnosis.Listing{Service: name, Index: index}
	for _, entry := range entries {
		listing.Entries = append(listing.Entries, listed(entry))
	}
	slices.SortFunc(listing.Entries, func(a, b diagnosis.Listed) int {
		return strings.Compare(a.Instance.ID+"\x00"+a.ConsulNode, b.Instance.ID+"\x00"+b.ConsulNode)
	})
	return listing
}

// listed is an entry in the words of people's questions. Clients get it only if
// all of its checks pass, its node's too.
func listed(entry *api.ServiceEntry) diagnosis.Listed {
	found := diagnosis.Listed{
		Entry: registration.Entry{
			Instance: consul.InstanceOf(entry.Service),
			Cluster:  entry.Service.Meta[service.MetaCluster],
			Node:     entry.Service.Meta[service.MetaNode],
		},
		ConsulNode: entry.Node.Node,
		Given:      entry.Checks.AggregatedStatus() == api.HealthPassing,
	}
	for _, check := range entry.Checks {
		if check.CheckID == entry.Service.ID {
			found.HasCheck, found.Instance.Health, found.Instance.Notes = true, service.Health(check.Status), check.Output
		}
	}
	if !found.Given {
		found.Why = whyAbsent(entry)
	}
	return found
}
