package main

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/lab/timeline"
)

// quantiles sums up durations in milliseconds.
type quantiles struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// summarize takes the nearest rank: with 20 values p99 is the largest.
func summarize(values []time.Duration) quantiles {
	if len(values) == 0 {
		return quantiles{}
	}
	slices.Sort(values)
	rank := func(p float64) float64 {
		i := int(math.Ceil(p*float64(len(values))-1e-9)) - 1
		return milliseconds(values[max(i, 0)])
	}
	return quantiles{N: len(values), P50: rank(0.50), P90: rank(0.90), P99: rank(0.99), Max: rank(1)}
}

// String is the quantiles in a table's cell.
func (q quantiles) String() string {
	return fmt.Sprintf("%.0f / %.0f / %.0f / %.0f", q.P50, q.P90, q.P99, q.Max)
}

// between sums up the pods that went from one stage to another; a pod that did
// not is missing from n.
func between(pods []timeline.Pod, from, to timeline.Stage) quantiles {
	var took []time.Duration
	for _, p := range pods {
		if d, ok := p.Between(from, to); ok {
			took = append(took, d)
		}
	}
	return summarize(took)
}

// middle is the middle one of an odd number of values.
func middle(values []float64) float64 {
	return slices.Sorted(slices.Values(values))[len(values)/2]
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond).Microseconds()) / 1000
}

// loadAverage is what else the machine does: the mean number of processes that
// want a core, over the last minute.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}
