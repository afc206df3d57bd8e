package agent

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
	"fairway.dev/fairway/internal/tokens"
)

// kubeSide is a pod source and a pod writer in memory: conditions that are
// written show in the pods, as they would through a watch.
type kubeSide struct {
	mu          sync.Mutex
	synced      bool
	pods        map[string]service.Pod // by UID
	gone        map[string]string
	exists      map[string]bool // by UID: what a GET would find
	apiDown     bool
	subscribers []chan struct{}
	writes      int
	events      []string
}

func newKubeSide() *kubeSide {
	return &kubeSide{synced: true, pods: map[string]service.Pod{}, gone: map[string]string{}, exists: map[string]bool{}}
}

// change edits the state and tells the subscribers.
func (k *kubeSide) change(edit func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	edit()
	for _, ch := range k.subscribers {
		trigger(ch).fire()
	}
}

func (k *kubeSide) set(pods ...service.Pod) {
	k.change(func() {
		for _, pod := range pods {
			pod.Conditions = k.pods[pod.Ref.UID].Conditions
			k.pods[pod.Ref.UID] = pod
			k.exists[pod.Ref.UID] = true
		}
	})
}

func (k *kubeSide) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (k *kubeSide) Snapshot() ([]service.Pod, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.synced {
		return nil, false
	}
	return slices.SortedFunc(maps.Values(k.pods), func(a, b service.Pod) int {
		return strings.Compare(a.Ref.String(), b.Ref.String())
	}), true
}

func (k *kubeSide) Subscribe() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	ch := newTrigger()
	k.subscribers = append(k.subscribers, ch)
	return ch
}

func (k *kubeSide) Gone(map[string]bool) map[string]string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.gone)
}

// Running has no kubelet to ask.
func (k *kubeSide) Running() map[string]bool { return nil }

func (k *kubeSide) Confirm(_ context.Context, pod service.PodRef) (found *service.Pod, why string, err error) {
	k.change(func() {
		switch {
		case k.apiDown:
			err = fmt.Errorf("no answer about %s", pod)
		case !k.exists[pod.UID]:
			why = "no such pod"
			k.gone[pod.UID] = why
		default:
			there := k.pods[pod.UID]
			there.Ref = pod
			found = &there
			delete(k.gone, pod.UID)
		}
	})
	return found, why, err
}

func (k *kubeSide) Absent(_ context.Context, name service.PodRef) (bool, string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.apiDown {
		return false, "", fmt.Errorf("no answer about %s", name)
	}
	for _, pod := range k.pods {
		if pod.Ref.Namespace == name.Namespace && pod.Ref.Name == name.Name {
			return false, "", nil
		}
	}
	return true, "no such pod", nil
}

func (k *kubeSide) SetCondition(_ context.Context, pod service.Pod, kind string, want service.Condition) error {
	k.change(func() {
		k.writes++
		now := k.pods[pod.Ref.UID]
		now.Conditions = maps.Clone(now.Conditions)
		if now.Conditions == nil {
			now.Conditions = map[string]service.Condition{}
		}
		now.Conditions[kind] = want
		k.pods[pod.Ref.UID] = now
	})
	return nil
}

func (k *kubeSide) Note(pod service.PodRef, reason, _ string) { k.event("Normal", pod, reason) }
func (k *kubeSide) Warn(pod service.PodRef, reason, _ string) { k.event("Warning", pod, reason) }

func (k *kubeSide) event(kind string, pod service.PodRef, reason string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, kind+" "+pod.Name+" "+reason)
}

func (k *kubeSide) condition(uid, kind string) service.Condition {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pods[uid].Conditions[kind]
}

func (k *kubeSide) seen() (writes int, events []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.writes, slices.Clone(k.events)
}

// webPod is a running, gated pod that declares service web.
func webPod(n int) service.Pod {
	return service.Pod{
		Ref:             service.PodRef{Namespace: "shop", Name: fmt.Sprintf("web-%d", n), UID: fmt.Sprintf("uid-%d", n)},
		Annotations:     map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-port": "8080"},
		Addresses:       []netip.Addr{netip.AddrFrom4([4]byte{198, 18, 64, byte(n)})},
		Phase:           service.PhaseRunning,
		ContainersReady: true,
		Gates:           []service.Gate{{Type: service.GateReachable}},
	}
}

// world is one node: Consul, pods, and a running agent.
type world struct {
	t        *testing.T
	registry string // as in Options
	consul   *consultest.Cluster
	kube     *kubeSide
	token    string
	url      string
	// grpc and katalog are the addresses at which pods ask.
	grpc, katalog string
	grpcListen    string // at which the next agent listens; empty: any port
	katalogMode   succession.Mode
	resync        time.Duration // zero: a second
	stop          func()
}

func newWorld(t *testing.T) *world {
	c := consultest.Start(t, true)
	return &world{t: t, registry: RegistryAgent, consul: c, kube: newKubeSide(), token: c.Token(consultest.FairwayRules)}
}

// newCatalogWorld has no Consul agent on the node.
func newCatalogWorld(t *testing.T) *world {
	c := consultest.Start(t, false)
	return &world{t: t, registry: RegistryCatalog, consul: c, kube: newKubeSide(), token: c.Token(consultest.CatalogRules)}
}

// inEachWorld runs a test with each registry.
func inEachWorld(t *testing.T, test func(t *testing.T, w *world)) {
	for registry, world := range map[string]func(*testing.T) *world{RegistryAgent: newWorld, RegistryCatalog: newCatalogWorld} {
		t.Run(registry, func(t *testing.T) {
			t.Parallel()
			test(t, world(t))
		})
	}
}

// start starts an agent process, as it were.
func (w *world) start() {
	w.t.Helper()
	opts := Default()
	opts.ClusterID, opts.NodeName, opts.Listen, opts.Resync = "east", "n1", "127.0.0.1:0", time.Second
	if w.resync > 0 {
		opts.Resync = w.resync
	}
	opts.PodNamespace, opts.PodName = "fairway", "agent"
	opts.Registry, opts.NodeAddress = w.registry, "198.18.0.21"
	opts.ConsulAddress = w.consul.Node().Address
	_, opts.ConsulTokenFile = w.consul.Node().FairwayClient(w.token)
	grpcListen := w.grpcListen
	if grpcListen == "" {
		grpcListen = "127.0.0.1:0"
	}
	opts.KatalogSync = w.katalogMode
	opts.GRPCListen, opts.KatalogRPCListen = grpcListen, "127.0.0.1:0"
	if err := opts.Validate(); err != nil {
		w.t.Fatal(err)
	}
	outside, closers, err := consulAdapters(opts)
	if err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	outside.source, outside.writer, outside.tokens = w.kube, w.kube, names{}
	a := newAgent(opts, log, outside)
	a.closers = closers
	var servers sync.Map
	started := make(chan struct{})
	a.listening = func(server string, at net.Addr) {
		servers.Store(server, at.String())
		if server == "katalog rpc" { // the last one
			close(started)
		}
	}

	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	<-started
	address := func(server string) string {
		at, _ := servers.Load(server)
		return at.(string)
	}
	w.url, w.grpc, w.katalog = "http://"+address("http"), address("grpc"), address("katalog rpc")
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the agent ended with: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
}

// names is a verifier that takes a pod's identity for its token.
type names struct{}

func (names) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (names) Verify(_ context.Context, token string) (service.PodRef, error) {
	parts := strings.Split(token, "/")
	if len(parts) != 3 {
		return service.PodRef{}, tokens.ErrRefused
	}
	return service.PodRef{Namespace: parts[0], Name: parts[1], UID: parts[2]}, nil
}

func (w *world) get(path string) (int, string) {
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var body strings.Builder
	if err := resp.Write(&body); err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, body.String()
}

// metric is the value of one series, 0 if there is none.
func (w *world) metric(series string) float64 {
	w.t.Helper()
	_, body := w.get("/metrics")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				w.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// registered waits until the process has made n registrations. The servers may
// show an entry before the node's agent has told them of it as well.
func (w *world) registered(n float64) {
	w.t.Helper()
	consultest.Eventually(w.t, "no registration is under way", func() error {
		if done := w.metric(`fairway_registry_op_seconds_count{op="register"}`); done != n {
			return fmt.Errorf("%v registrations are done, not %v", done, n)
		}
		return nil
	})
}

// atServers is the health of every instance at the servers, by pod.
func (w *world) atServers() map[string]string {
	w.t.Helper()
	entries, _, err := w.consul.Management().Health().Service("web", "", false, &api.QueryOptions{RequireConsistent: true})
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[string]string{}
	for _, entry := range entries {
		got[entry.Service.Meta[service.MetaPod]] = entry.Checks.AggregatedStatus()
	}
	return got
}

func (w *world) eventually(want map[string]string) {
	w.t.Helper()
	consultest.Eventually(w.t, "the servers have the pods' health", func() error {
		if diff := cmp.Diff(want, w.atServers()); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
}

func (w *world) eventuallyCondition(uid, kind string, status service.ConditionStatus, reason string) service.Condition {
	w.t.Helper()
	consultest.Eventually(w.t, "condition "+kind+" of "+uid, func() error {
		if got := w.kube.condition(uid, kind); got.Status != status || got.Reason != reason {
			return fmt.Errorf("want %s %s, got %+v", status, reason, got)
		}
		return nil
	})
	return w.kube.condition(uid, kind)
}
