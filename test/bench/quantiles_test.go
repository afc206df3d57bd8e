package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSummarize(t *testing.T) {
	var twenty []time.Duration
	for i := range 20 {
		twenty = append(twenty, time.Duration(20-i)*time.Millisecond)
	}
	for _, c := range []struct {
		name string
		in   []time.Duration
		want quantiles
	}{
		{"none", nil, quantiles{}},
		{"one", []time.Duration{1500 * time.Microsecond}, quantiles{N: 1, P50: 1.5, P90: 1.5, P99: 1.5, Max: 1.5}},
		{"twenty", twenty, quantiles{N: 20, P50: 10, P90: 18, P99: 20, Max: 20}},
		{"before", []time.Duration{-time.Millisecond, time.Millisecond}, quantiles{N: 2, P50: -1, P90: 1, P99: 1, Max: 1}},
	} {
		if diff := cmp.Diff(c.want, summarize(c.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
