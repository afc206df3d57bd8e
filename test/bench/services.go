package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/cluster"
)

// servicesResult is the JSON line of bench services.
type servicesResult struct {
	Bench string `json:"bench"`
	// Alone is what Consul writes by itself, without Fairway.
	Alone   logged        `json:"consul_alone"`
	Results []servicesRow `json:"results"`
	// Missed are the promises that a row did not keep.
	Missed []string `json:"missed"`
}

// servicesRow is one number of Services.
type servicesRow struct {
	Services            int       `json:"services"`
	EndpointsPerService int       `json:"endpoints_per_service"`
	Imported            int       `json:"imported_services"`
	ColdSync            float64   `json:"cold_sync_ms"` // from the start of the process; the middle one of
	ColdSyncs           []float64 `json:"cold_syncs_ms"`
	Sync                float64   `json:"sync_ms"` // from the first instance to the last; the middle one
	ChangeToVisible     quantiles `json:"change_to_visible_ms"`
	ImportChange        quantiles `json:"import_change_ms"`
	Dropped             int       `json:"dropped"` // answers that lacked what had not changed
	Floor               quantiles `json:"floor_ms"`
	atRest
	RestAPIWrites int    `json:"rest_api_writes"` // requests to the API server but for the leader's Lease
	Load          string `json:"load_average"`
}

// servicesFlags say which rows are measured and how long.
type servicesFlags struct {
	services []int
	rest     time.Duration
	page     string
}

// promisedServices is the number of Services at which the promises are checked.
const promisedServices = 1000

func servicesCommand() *cobra.Command {
	var o servicesFlags
	cmd := &cobra.Command{
		Use:   "services",
		Short: "What the controller does and costs, by the number of Services that it publishes",
		Long: fmt.Sprintf(`Runs the controller's binary as a process on a node of the lab, the only replica,
with the rights that the chart gives it. It publishes Services with %d endpoints each,
and imports %d services of Consul. For each number of Services it measures
  cold_sync          from the start of the process, with Consul empty, until the
                     leading Consul server has all instances passing
  sync               the part of it from the first instance on
  change_to_visible  from the request that makes one endpoint ready, or not ready, to
                     the API server, until a blocking query on the leading Consul
                     server shows it
  import_change      from the request that changes the health of one instance, to the
                     leading Consul server, until a watch shows its EndpointSlice
                     without it, or with it
  floor              one call that registers one service, until the query shows it
  at rest            the process's CPU time and memory, what is written to Consul's
                     log, and requests to the API server that write

Changes are made every %s, to one Service after another.

The Services have no selector and no cluster IP, and their endpoints are no pods:
the controller reads the EndpointSlices only. What would only take the machine's
cores, kube-controller-manager and kube-proxy, is stopped.`, endpointsPerService, importedServices, changeEvery),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			topology := cluster.Default("bench")
			topology.Nodes, topology.ConsulAgents = 1, false
			return withLab(cmd.Context(), topology, func(ctx context.Context, lab *cluster.Cluster) (any, error) {
				return benchServices(ctx, lab, o)
			})
		},
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.services, "services", []int{100, promisedServices, 5000}, "numbers of Services")
	f.DurationVar(&o.rest, "rest", 0, fmt.Sprintf("how long to watch each row at rest (default 5m with %d Services, else 1m)", promisedServices))
	f.StringVar(&o.page, "write", "", "Markdown page in which to replace the table")
	return cmd
}

func benchServices(ctx context.Context, lab *cluster.Cluster, o servicesFlags) (any, error) {
	b, err := newServicesBench(ctx, lab)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.folder)
	r := servicesResult{Bench: "services", Missed: []string{}}
	alone := restFor(o.rest, false)
	fmt.Fprintln(os.Stderr, "Consul by itself, for", alone)
	if r.Alone, err = watchLog(ctx, lab, alone); err != nil {
		return nil, err
	}
	slices.Sort(o.services) // Services are only added
	for _, n := range o.services {
		row, err := b.measure(ctx, n, restFor(o.rest, n == promisedServices), r.Alone)
		if err != nil {
			return r, fmt.Errorf("%d Services: %w", n, err)
		}
		r.Results = append(r.Results, row)
		r.Missed = append(r.Missed, row.missed()...)
		fmt.Fprintln(os.Stderr, servicesTable(r.Results[len(r.Results)-1:]))
	}
	table := servicesTable(r.Results)
	fmt.Fprintln(os.Stderr, table)
	if o.page != "" {
		err = replaceTable(o.page, "bench-services", table)
	}
	return r, errors.Join(err, kept(r.Missed))
}
