package agent

import (
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/lab/servers"
)

// An instance that enters or leaves service is timed from when its pod asked
// for it, and is due until then. Other writes are not timed.
func TestTimesOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m, reg := newKubeSide(), &memory{}, prometheus.NewRegistry()
		startMeasuredPublisher(t, pods, m, reg)
		expect := func(when string, want map[string]float64) {
			t.Helper()
			synctest.Wait()
			got := gather(t, reg)
			for series := range want {
				if diff := cmp.Diff(want[series], got[series]); diff != "" {
					t.Errorf("%s: %s (-want +got):\n%s", when, series, diff)
				}
			}
		}
		const (
			due        = `fairway_entries{state="due"}`
			failing    = `fairway_entries{state="failing"}`
			refused    = `fairway_entries{state="refused"}`
			outSince   = `fairway_entries_due_since_timestamp_seconds{change="out"}`
			ins, outs  = `fairway_publish_seconds_count{change="in"}`, `fairway_publish_seconds_count{change="out"}`
			inSeconds  = `fairway_publish_seconds_sum{change="in"}`
			outSeconds = `fairway_publish_seconds_sum{change="out"}`
		)
		pods.set(runningPod("web", false))
		expect("registered out of service", map[string]float64{due: 0, ins: 0, outs: 0})
		pods.set(runningPod("web", true))
		expect("in service", map[string]float64{due: 0, ins: 1, inSeconds: 0, outs: 0})

		m.mu.Lock()
		m.fail = map[string]error{"web": consul.ErrUnavailable}
		m.mu.Unlock()
		leaving := runningPod("web", true)
		leaving.Terminating = true
		left := time.Now()
		pods.set(leaving)
		time.Sleep(3 * time.Second) // virtual time
		expect("it cannot be written", map[string]float64{due: 1, failing: 1, refused: 0, outs: 0, outSince: float64(left.Unix())})
		m.mu.Lock()
		m.fail = map[string]error{"web": errors.New("no")}
		m.mu.Unlock()
		time.Sleep(5 * time.Second) // virtual time
		expect("it is refused", map[string]float64{due: 1, failing: 0, refused: 1, outs: 0})
		m.mu.Lock()
		m.fail = nil
		m.mu.Unlock()
		time.Sleep(10 * time.Second) // virtual time
		expect("out of service", map[string]float64{due: 0, failing: 0, refused: 0, ins: 1, outs: 1, outSeconds: 15.75, outSince: 0})
	})
}

// Who waits at a gate is counted by reason, with the one who waits longest. A
// proof that the API server has not taken is waited for, too.
func TestWhoWaitsAtTheGate(t *testing.T) {
	reg := prometheus.NewRegistry()
	g := &gatekeeper{metrics: newMetrics(reg)}
	waits := func(reason string, open bool, since time.Time) *pod {
		return &pod{verdict: gate.Verdict{Reason: reason, Open: open}, readySince: since}
	}
	first, later := time.Unix(1000, 0), time.Unix(2000, 0)
	g.count([]*pod{
		waits(gate.WaitingForServers, false, later), waits(gate.WaitingForServers, false, first),
		waits(gate.Reachable, true, later), waits(gate.WaitingForContainers, false, time.Time{}),
	})
	const count, since = "fairway_gate_waiting", "fairway_gate_waiting_since_timestamp_seconds"
	got := gather(t, reg)
	for series, want := range map[string]float64{
		count + `{reason="WaitingForServers"}`: 2, since + `{reason="WaitingForServers"}`: 1000,
		count + `{reason="Reachable"}`: 1, since + `{reason="Reachable"}`: 2000,
		count + `{reason="WaitingForContainers"}`: 1, count + `{reason="RegistryRefused"}`: 0,
	} {
		if value, ok := got[series]; !ok || value != want {
			t.Errorf("%s is %v, want %v", series, value, want)
		}
	}
	if _, ok := got[since+`{reason="WaitingForContainers"}`]; ok {
		t.Error("a pod whose containers are not ready is said to be ready but for the gate")
	}
	g.count(nil)
	got = gather(t, reg)
	if n, ok := got[count+`{reason="WaitingForServers"}`]; !ok || n != 0 {
		t.Errorf("nobody waits, and %v are said to", n)
	}
	if _, ok := got[since+`{reason="WaitingForServers"}`]; ok {
		t.Error("nobody waits, and it is said since when")
	}
}

// The names and helps are as Prometheus wants them.
func TestMetricsAreWellNamed(t *testing.T) {
	bin, err := servers.Ensure(t.Context(), servers.Options{Families: []servers.Family{servers.Prometheus}, Out: t.Output()})
	if err != nil {
		t.Fatalf("build promtool: %v", err)
	}
	w := newWorld(t)
	w.kube.set(webPod(1))
	w.start()
	consultest.Eventually(t, "the agent publishes", func() error {
		if w.metric("fairway_publishing") != 1 || w.metric(`fairway_publish_seconds_count{change="in"}`) != 1 {
			return errors.New("not yet")
		}
		return nil
	})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	cmd := exec.CommandContext(t.Context(), bin.Path("promtool"), "check", "metrics")
	cmd.Stdin = answer.Body
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// gather is the value of each series as a scrape shows it.
func gather(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+`="`+l.GetValue()+`"`)
			}
			suffix := ""
			if len(labels) > 0 {
				suffix = "{" + strings.Join(labels, ",") + "}"
			}
			series[family.GetName()+suffix] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if h := m.GetHistogram(); h != nil {
				series[family.GetName()+"_count"+suffix] = float64(h.GetSampleCount())
				series[family.GetName()+"_sum"+suffix] = h.GetSampleSum()
			}
		}
	}
	return series
}
