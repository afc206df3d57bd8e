package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"fairway.dev/fairway/internal/app/gatesidecar"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/rpc/katalogsync"
	"fairway.dev/fairway/internal/service"
)

// The tests in this file run the whole agent and the whole fairway-gate against
// a real Consul.

// sidecar is a fairway-gate process of a pod.
type sidecar struct {
	w    *world
	url  string
	stop func() error // asks it to stop and waits until it has; while there is an agent, or it asks that for long
}

func (w *world) sidecar(token string, edit func(*gatesidecar.Options)) *sidecar {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	opts := gatesidecar.Default()
	opts.Agent, opts.TokenFile, opts.Listen, opts.Settle = w.grpc, file, "127.0.0.1:0", 0
	if edit != nil {
		edit(&opts)
	}
	s := &sidecar{w: w}
	if err := opts.Validate(); err != nil {
		w.t.Fatal(err)
	}
	g := gatesidecar.New(opts, slog.New(slog.NewTextHandler(w.t.Output(), nil)))
	addresses := make(chan net.Addr, 1)
	g.Listening = func(at net.Addr) { addresses <- at }
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	s.url = "http://" + (<-addresses).String()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	return s
}

func tokenOf(pod service.Pod) string { return pod.Ref.String() + "/" + pod.Ref.UID }

func (s *sidecar) get(path string) (int, string) {
	s.w.t.Helper()
	req, err := http.NewRequestWithContext(s.w.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.w.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// TestDrainIsProven: /drain answers when the servers have dropped the pod,
// although its deletion was never seen.
func TestDrainIsProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	pod := webPod(1)
	w.kube.set(pod, webPod(2))
	w.eventually(map[string]string{"web-1": api.HealthPassing, "web-2": api.HealthPassing})
	s := w.sidecar(tokenOf(pod), nil)
	defer s.stop()
	for range 2 { // a second hook of the pod asks as well
		code, body := s.get("/drain")
		if got := w.atServers(); code != http.StatusOK || got["web-1"] != api.HealthCritical || got["web-2"] != api.HealthPassing {
			t.Errorf("%d %s; the servers have %v", code, body, got)
		}
		if !strings.Contains(body, "OutOfService") || !strings.Contains(body, "web (index ") {
			t.Errorf("the answer holds no proof: %s", body)
		}
	}
	if err := s.stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	if n := w.metric(`fairway_drains_total{result="out"}`); n != 3 { // the last one at its stop
		t.Errorf("%v drains counted, want 3", n)
	}
	if _, events := w.kube.seen(); slices.ContainsFunc(events, func(e string) bool { return strings.HasPrefix(e, "Warning") }) {
		t.Errorf("events: %v", events)
	}
}

// TestDrainOfEntriesNoLongerDeclared: what the annotations have lost is still
// given to clients, and must be out as well.
func TestDrainOfEntriesNoLongerDeclared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.kube.set(webPod(1))
	w.eventually(map[string]string{"web-1": api.HealthPassing})
	bad := webPod(1)
	bad.Annotations = map[string]string{"fairway.dev/service-names": "we_b!"}
	w.kube.set(bad)
	s := w.sidecar(tokenOf(bad), nil)
	defer s.stop()
	if code, body := s.get("/drain"); code != http.StatusOK || !strings.Contains(body, "web (index ") {
		t.Errorf("%d %s", code, body)
	}
	if got := w.atServers(); got["web-1"] != api.HealthCritical {
		t.Errorf("the servers have %v", got)
	}
}

// TestI7DrainWithoutServersSaysSo: without the servers nothing is confirmed,
// the answer comes in time and says why, and the next one succeeds.
func TestI7DrainWithoutServersSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	pod := webPod(1)
	w.kube.set(pod)
	w.eventually(map[string]string{"web-1": api.HealthPassing})
	w.consul.Server.Stop()

	s := w.sidecar(tokenOf(pod), func(o *gatesidecar.Options) { o.DrainTimeout = 3 * time.Second })
	defer s.stop()
	start := time.Now()
	code, body := s.get("/drain")
	if took := time.Since(start); took > 6*time.Second {
		t.Errorf("the answer took %s", took)
	}
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "not confirmed out of service within 3s") ||
		!strings.Contains(body, "WaitingFor") || !strings.Contains(body, "since ") {
		t.Errorf("%d %s", code, body)
	}
	t.Log(body)
	v := w.eventuallyView("the wait is over", func(v nodeview.View) bool { return len(v.Drains) == 1 && v.Drains[0].Ended != "" })
	if d := v.Drains[0]; d.Ended != "not-confirmed" || d.Out || d.Pod.UID != pod.Ref.UID || !strings.HasPrefix(d.Reason, "WaitingFor") || !d.Until.After(d.Asked) {
		t.Errorf("the view has %+v", d)
	}

	w.consul.Server.Start()
	w.consul.WaitReady()
	patient := w.sidecar(tokenOf(pod), nil)
	defer patient.stop()
	if code, body := patient.get("/drain"); code != http.StatusOK {
		t.Errorf("with the servers: %d %s", code, body)
	}
	if got := w.atServers(); got["web-1"] != api.HealthCritical {
		t.Errorf("the servers have %v", got)
	}
}

// TestDrainSurvivesARestartOfTheAgent: the sidecar asks the next agent.
func TestDrainSurvivesARestartOfTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	pod := webPod(1)
	w.kube.set(pod)
	w.eventually(map[string]string{"web-1": api.HealthPassing})
	w.consul.Server.Stop()
	at := w.grpc
	s := w.sidecar(tokenOf(pod), nil)
	defer s.stop()
	type answer struct {
		code int
		body string
	}
	answered := make(chan answer, 1)
	go func() {
		code, body := s.get("/drain")
		answered <- answer{code, body}
	}()
	consultest.Eventually(t, "the drain waits", func() error {
		if _, body := w.get("/metrics"); !strings.Contains(body, `fairway_drain_waiting{reason="`) {
			return errors.New("nothing waits")
		}
		return nil
	})
	w.stop()
	w.grpcListen = at
	w.consul.Server.Start()
	w.consul.WaitReady()
	w.start()
	if got := <-answered; got.code != http.StatusOK {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := w.atServers(); got["web-1"] != api.HealthCritical {
		t.Errorf("the servers have %v", got)
	}
}

// TestI8OtherTokenIsRefused: who cannot show which pod it is changes nothing.
func TestI8OtherTokenIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	w.kube.set(webPod(1))
	w.eventually(map[string]string{"web-1": api.HealthPassing})
	s := w.sidecar("not-a-token", func(o *gatesidecar.Options) { o.DrainTimeout = time.Second })
	defer s.stop()
	if code, body := s.get("/drain"); code != http.StatusServiceUnavailable || !strings.Contains(body, "the token is refused") {
		t.Errorf("%d %s", code, body)
	}
	if got := w.atServers(); got["web-1"] != api.HealthPassing {
		t.Errorf("the servers have %v", got)
	}
	if w.metric("fairway_calls_refused_total") == 0 {
		t.Error("the refusal was not counted")
	}
}

// TestReadyFollowsTheServers: the classic sidecar's probe says what it waits
// for, then that the pod is reachable, for a pod without gate as well.
func TestReadyFollowsTheServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	pod := webPod(1)
	pod.Gates = nil
	pod.ContainersReady, pod.NotReadyMessage = false, "containers with unready status: [web]"
	w.kube.set(pod)
	s := w.sidecar(tokenOf(pod), func(o *gatesidecar.Options) { o.DrainTimeout = time.Second }) // it stops without servers
	defer s.stop()
	ready := func(code int, want string) {
		t.Helper()
		consultest.Eventually(t, "/ready says "+want, func() error {
			if got, body := s.get("/ready"); got != code || !strings.Contains(body, want) {
				return fmt.Errorf("%d %s", got, body)
			}
			return nil
		})
	}
	ready(http.StatusServiceUnavailable, "WaitingForContainers: containers are not ready: containers with unready status: [web]")
	pod.ContainersReady, pod.NotReadyMessage = true, ""
	w.kube.set(pod)
	ready(http.StatusOK, "Reachable: passing at the servers: web (index ")
	if got := w.atServers(); got["web-1"] != api.HealthPassing {
		t.Errorf("the servers have %v", got)
	}
	// I3: it never closes again because Consul is in trouble.
	w.consul.Server.Stop()
	ready(http.StatusOK, "Reachable")
}

// TestKatalogRPC: an old sidecar is answered by what the servers return, and
// only about the pod that it calls from.
func TestKatalogRPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	local, other := webPod(1), webPod(2)
	local.Addresses = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	local.Gates, other.Gates = nil, nil
	w.kube.set(local, other)
	conn, err := grpc.NewClient(w.katalog, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	client := katalogsync.NewKatalogSyncClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	if _, err := client.Register(ctx, &katalogsync.RegisterQuery{Namespace: "shop", PodName: "web-1", ContainerName: "sidecar"}); err != nil {
		t.Errorf("register: %v", err)
	}
	if got := w.atServers(); got["web-1"] != api.HealthPassing {
		t.Errorf("registered, and the servers have %v", got)
	}
	for _, pod := range []string{"web-2", "nobody"} {
		_, err := client.Deregister(ctx, &katalogsync.DeregisterQuery{Namespace: "shop", PodName: pod})
		if code := status.Code(err); code != codes.PermissionDenied && code != codes.Unavailable {
			t.Errorf("deregister %s: %v", pod, err)
		}
	}
	if _, err := client.Deregister(ctx, &katalogsync.DeregisterQuery{Namespace: "shop", PodName: "web-1"}); err != nil {
		t.Errorf("deregister: %v", err)
	}
	if got := w.atServers(); got["web-1"] != api.HealthCritical || got["web-2"] != api.HealthPassing {
		t.Errorf("deregistered, and the servers have %v", got)
	}
}
