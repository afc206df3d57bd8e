package main

import (
	"fmt"
	"strings"
)

// missed are the promises that the row did not keep. They are made for one
// number of Services, but for the ones that hold for any.
func (r servicesRow) missed() []string {
	promises := []promise{
		{"answers that lacked what had not changed", float64(r.Dropped), 0},
		{"writes to Consul at rest", float64(r.RestWrites), 0},
		{"writes to the API server at rest", float64(r.RestAPIWrites), 0},
	}
	if r.Services == promisedServices {
		promises = append(promises,
			promise{"cold sync, ms", r.ColdSync, 3000},
			promise{"change to visible, p50, ms", r.ChangeToVisible.P50, 30},
			promise{"import of a change, p50, ms", r.ImportChange.P50, 100},
			promise{"CPU at rest, % of a core", r.RestCPUPercent, 0.5})
	}
	return missed(fmt.Sprintf("%d Services", r.Services), promises)
}

// servicesTable is the rows in Markdown.
func servicesTable(rows []servicesRow) string {
	var b strings.Builder
	fmt.Fprint(&b, `| Services | instances | cold sync, ms | of it writing | change → visible, ms: p50 / p90 / p99 / max | import of a change | dropped | floor p50 | CPU at rest | memory | writes at rest: Consul, API server | load |
|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %d | %d | %.0f | %.0f | %s | %s | %d | %.0f | %.2f %% | %.0f MiB | %d, %d in %.0f s | %s |\n",
			r.Services, r.Services*r.EndpointsPerService, r.ColdSync, r.Sync, r.ChangeToVisible, r.ImportChange, r.Dropped,
			r.Floor.P50, r.RestCPUPercent, r.RSSMiB, r.RestWrites, r.RestAPIWrites, r.RestSeconds, r.Load)
	}
	return b.String()
}
