package reaper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/service"
)

// world is two clusters and their Consul.
type world struct {
	mu     sync.Mutex
	leases map[string]map[string]catalog.Lease // by cluster and Consul node
	ports  map[string]bool                     // clusters whose agents answer at their ports
	consul error                               // why Consul does not answer
	index  uint64
	probes int
	did    map[string]int // by cluster and deed
	logged strings.Builder
}

func newWorld(t *testing.T) (*world, *looker) { return newWorldWith(t, Default()) }

func newWorldWith(t *testing.T, opts Options) (*world, *looker) {
	w := &world{leases: map[string]map[string]catalog.Lease{}, ports: map[string]bool{"east": true, "west": true}, did: map[string]int{}}
	for _, cluster := range []string{"east", "west"} {
		w.leases[cluster] = map[string]catalog.Lease{
			cluster + "-n1":       {Node: "n1", ConsulNode: cluster + "-n1", Address: netip.MustParseAddr("10.0.0.1"), Status: service.Passing, Index: 1},
			cluster + "-n2":       {Node: "n2", ConsulNode: cluster + "-n2", Address: netip.MustParseAddr("10.0.0.2"), Status: service.Passing, Index: 2},
			cluster + "-services": {Node: "services/00", ConsulNode: cluster + "-services", Address: netip.MustParseAddr("192.0.0.8")},
			cluster + "-made":     {Node: "n3", ConsulNode: cluster + "-made", Address: netip.MustParseAddr("10.0.0.3")},
		}
	}
	l := newLooker(w, w, opts, newMetrics(prometheus.NewRegistry()), slog.New(slog.NewTextHandler(io.MultiWriter(w, t.Output()), nil)))
	go func() { _ = l.run(t.Context()) }()
	return w, l
}

func (w *world) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logged.Write(text)
}

func (w *world) List(context.Context) (map[string][]catalog.Lease, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]catalog.Lease{}
	for cluster, leases := range w.leases {
		for _, lease := range leases {
			all[cluster] = append(all[cluster], lease)
		}
	}
	return all, w.consul
}

func (w *world) Ask(_ context.Context, cluster string, lease catalog.Lease, question string) error {
	return w.write(cluster, lease, "ask", service.Passing, question)
}

func (w *world) Expire(_ context.Context, cluster string, lease catalog.Lease, reason string) error {
	return w.write(cluster, lease, "expire", service.Critical, reason)
}

func (w *world) write(cluster string, lease catalog.Lease, deed string, status service.Health, says string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.consul != nil || w.leases[cluster][lease.ConsulNode].Index != lease.Index {
		return errors.Join(w.consul, &consul.Error{Kind: consul.ErrConflict})
	}
	w.index++
	lease.Status, lease.Reason, lease.Index = status, says, 1000+w.index
	w.leases[cluster][lease.ConsulNode] = lease
	w.did[cluster+" "+deed]++
	return nil
}

func (w *world) Answer(ctx context.Context, cluster, _ string, _ netip.Addr) bool {
	w.mu.Lock()
	w.probes++
	answers := w.ports[cluster]
	w.mu.Unlock()
	if !answers {
		select {
		case <-time.After(time.Second): // who is not there takes that long not to answer
		case <-ctx.Done():
		}
	}
	return answers
}

func (w *world) expect(t *testing.T, when string, want map[string]int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if diff := cmp.Diff(want, w.did); diff != "" {
		t.Errorf("%s (-want +done):\n%s", when, diff)
	}
	clear(w.did)
}

func (w *world) change(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// A cluster that dies is hidden, what stands for its Services too, and the other is
// left alone; when it is back it is said to live.
func TestDeadClusterIsHidden(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(t)
		time.Sleep(time.Hour)
		w.expect(t, "both live", map[string]int{})
		w.change(func() {
			if looks := int(time.Hour / l.opts.lookEvery()); w.probes > 2*looks+4 {
				t.Errorf("%d questions at ports in %d looks at two clusters", w.probes, looks)
			}
			w.ports["east"] = false
		})
		time.Sleep(10 * time.Minute)
		w.expect(t, "east is dead", map[string]int{"east ask": 3, "east expire": 3})
		if blocked, details := l.says(); blocked != "" || !strings.HasPrefix(details, "cluster east is expired: ") {
			t.Errorf("it says %q, %q", blocked, details)
		}
		w.change(func() {
			if w.leases["east"]["east-made"].Index != 0 {
				t.Error("a node without a lease was given one")
			}
			for name, lease := range maps.All(w.leases["east"]) { // it is back
				lease.Status, lease.Reason, lease.Index = service.Passing, "", lease.Index+1
				w.leases["east"][name] = lease
			}
			w.ports["east"] = true
		})
		time.Sleep(time.Hour)
		w.expect(t, "it is back", map[string]int{})
		told := []string{"level=WARN msg=cluster cluster=east state=Dead before=Asked", "level=INFO msg=cluster cluster=east state=Expired before=Dead", "level=INFO msg=cluster cluster=east state=Alive before=Expired"}
		lines := strings.Split(strings.TrimSpace(w.logged.String()), "\n")
		for i, want := range told {
			if len(lines) != len(told) || !strings.Contains(lines[i], want) {
				t.Fatalf("it logs\n%s\nwant %s", w.logged.String(), strings.Join(told, "\n"))
			}
		}
	})
}

// Of two that look at the same moment one writes, and the other takes no offence.
func TestTwoReapersWriteOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, one := newWorld(t)
		two := newLooker(w, w, one.opts, newMetrics(prometheus.NewRegistry()), one.log)
		go func() { _ = two.run(t.Context()) }()
		time.Sleep(time.Minute)
		w.change(func() { w.ports["east"] = false })
		time.Sleep(10 * time.Minute)
		w.expect(t, "east is dead", map[string]int{"east ask": 3, "east expire": 3})
		if strings.Contains(w.logged.String(), "failed") {
			t.Errorf("it logs\n%s", w.logged.String())
		}
	})
}

// Who wants to know sooner is told sooner, and no later than that.
func TestShortestTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opts := Default()
		opts.AnswerWithin, opts.DeadAfter = leastAnswer, 2*leastAnswer
		if err := opts.Validate(); err != nil {
			t.Fatal(err)
		}
		w, _ := newWorldWith(t, opts)
		time.Sleep(time.Hour)
		w.change(func() { w.ports["east"] = false })
		time.Sleep(opts.DeadAfter - 2*opts.lookEvery())
		w.expect(t, "not for so long", map[string]int{"east ask": 3})
		time.Sleep(4 * opts.lookEvery())
		w.expect(t, "dead", map[string]int{"east expire": 3})
	})
}

// While Consul cannot be read nobody is taken for dead, and it says why (I1, I7).
func TestI1BlindReaperExpiresNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, l := newWorld(t)
		time.Sleep(time.Minute)
		w.change(func() {
			w.consul = &consul.Error{Kind: consul.ErrUnavailable}
			w.ports["east"], w.ports["west"] = false, false
		})
		time.Sleep(time.Hour)
		if blocked, _ := l.says(); !strings.Contains(blocked, "could not be read from Consul") {
			t.Errorf("it says %q", blocked)
		}
		w.change(func() { w.consul = nil })
		time.Sleep(2 * time.Minute)
		w.change(func() {
			if w.did["east expire"]+w.did["west expire"] > 0 {
				t.Errorf("two minutes after Consul is back: %v", w.did)
			}
		})
	})
}

// Clusters that do not answer at their ports take no time from each other.
func TestManySilentClusters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, _ := newWorld(t)
		w.change(func() {
			for i := range 40 {
				name := fmt.Sprintf("c%02d", i)
				w.leases[name] = map[string]catalog.Lease{name: {Node: "n1", ConsulNode: name, Address: netip.MustParseAddr("10.0.1.1"), Status: service.Passing, Index: 1}}
			}
		})
		time.Sleep(10 * time.Minute)
		w.change(func() {
			for i := range 40 {
				if name := fmt.Sprintf("c%02d", i); w.leases[name][name].Status != service.Critical {
					t.Errorf("%s is not expired: %+v", name, w.leases[name][name])
				}
			}
		})
	})
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	for flag, spoil := range map[string]func(*Options){
		"--consul-address": func(o *Options) { o.ConsulAddress = "" },
		"--log-format":     func(o *Options) { o.LogFormat = "xml" },
		"--listen":         func(o *Options) { o.Listen = "9983" },
		"--agent-port":     func(o *Options) { o.AgentPort = 0 },
		"--answer-within":  func(o *Options) { o.AnswerWithin = time.Second },
		"--dead-after":     func(o *Options) { o.DeadAfter = 4 * time.Minute },
	} {
		bad := Default()
		spoil(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v does not name it", flag, err)
		}
	}
}
