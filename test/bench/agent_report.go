package main

import (
	"fmt"
	"strings"
)

// missed are the promises that the row did not keep. They are made for one
// number of pods.
func (r agentRow) missed() []string {
	if r.Pods != promisedPods {
		return nil
	}
	return missed(fmt.Sprintf("%s, %d pods", r.Registry, r.Pods), []promise{
		{"ready to passing, p50, ms", r.ReadyToPassing.P50, 25},
		{"ready to passing, p99, ms", r.ReadyToPassing.P99, 150},
		{"terminating to out, p50, ms", r.TerminatingToOut.P50, 25},
		{"healthy pods dropped", float64(r.Dropped + r.Burst.Dropped), 0},
		{"cold start, ms", r.ColdStart, 500},
		{"CPU at rest, % of a core", r.RestCPUPercent, 0.2},
		{"memory, MiB", r.RSSMiB, 40},
		{"writes at rest", float64(r.RestWrites), 0},
	})
}

// agentTable is the rows in Markdown.
func agentTable(rows []agentRow) string {
	var b strings.Builder
	fmt.Fprint(&b, `| registry | pods | ready → passing, ms: p50 / p90 / p99 / max | ending → out | the same, all at once | | dropped | floor p50 | cold start, ms | CPU at rest | memory | writes at rest | load |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
`)
	for _, r := range rows {
		pods := fmt.Sprint(r.Pods)
		if r.PodsAre == containerPods {
			pods += " (containers)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %d | %.0f | %.0f | %.2f %% | %.0f MiB | %d in %.0f s | %s |\n",
			r.Registry, pods, r.ReadyToPassing, r.TerminatingToOut, r.Burst.ReadyToPassing, r.Burst.TerminatingToOut, r.Dropped+r.Burst.Dropped,
			r.Floor.P50, r.ColdStart, r.RestCPUPercent, r.RSSMiB, r.RestWrites, r.RestSeconds, r.Load)
	}
	return b.String()
}
