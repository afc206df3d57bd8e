package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
)

func TestLogged(t *testing.T) {
	l := logged{Kinds: map[string]int{}}
	for range 2 {
		l.Seconds += 10
		l.add(api.MetricsInfo{
			Counters: []api.SampledValue{{Name: "consul.raft.apply", Count: 7}, {Name: "consul.raft.barrier", Count: 1}},
			Samples: []api.SampledValue{
				{Name: "consul.fsm.txn", Count: 2}, {Name: "consul.fsm.register", Count: 1},
				{Name: "consul.fsm.coordinate.batch-update", Count: 2}, {Name: "consul.fsm.tombstone", Count: 1}, {Name: "consul.raft.fsm.apply", Count: 7},
			},
		})
	}
	want := logged{Seconds: 20, Writes: 6, Kinds: map[string]int{"txn": 4, "register": 2}, Coordinates: 4, Others: 4}
	if diff := cmp.Diff(want, l); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		alone logged
		want  int
	}{
		{logged{}, 6}, {logged{Seconds: 60}, 6}, {logged{Seconds: 60, Writes: 6}, 4}, {logged{Seconds: 10, Writes: 9}, 0},
	} {
		if got := l.beyond(c.alone); got != c.want {
			t.Errorf("%d writes beyond %+v, want %d", got, c.alone, c.want)
		}
	}
}

func TestMissed(t *testing.T) {
	kept := agentRow{
		Registry: "agent", Pods: promisedPods, ReadyToPassing: quantiles{P50: 25, P99: 150}, TerminatingToOut: quantiles{P50: 25},
		ColdStart: 500, atRest: atRest{RestCPUPercent: 0.2, RSSMiB: 40},
	}
	if missed := kept.missed(); len(missed) > 0 {
		t.Errorf("at the bounds: missed %q", missed)
	}
	broken := kept
	broken.ReadyToPassing.P99, broken.RestWrites = 150.1, 1
	want := []string{
		"agent, 110 pods: ready to passing, p99, ms is 150.1, should be 150 or less",
		"agent, 110 pods: writes at rest is 1, should be 0 or less",
	}
	if diff := cmp.Diff(want, broken.missed()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	broken.Pods = 500
	if missed := broken.missed(); len(missed) > 0 {
		t.Errorf("with another number of pods: missed %q", missed)
	}
}

func TestReplaceTable(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	const around = "a\n<!-- measured by make x: begin -->\n%<!-- measured by make x: end -->\nb\n"
	if err := os.WriteFile(page, []byte(strings.Replace(around, "%", "old\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := replaceTable(page, "x", "new\n"); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Replace(around, "%", "new\n", 1), string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := replaceTable(page, "y", "new\n"); err == nil {
		t.Error("a page without the lines was written")
	}
}
