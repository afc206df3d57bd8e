package kubelet

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podsv1alpha1 "k8s.io/kubelet/pkg/apis/pods/v1alpha1"

	"fairway.dev/fairway/internal/kube"
)

// The real kubelet is in test/e2e. What it does rarely, when it has just
// started, is overrun or hangs, is here.

// podsServer is a kubelet's pods API that says what it is told to say.
type podsServer struct {
	podsv1alpha1.UnimplementedPodsServer

	mu     sync.Mutex
	pods   [][]byte
	fail   error                             // of every call
	hang   bool                              // lists do not return
	events chan *podsv1alpha1.WatchPodsEvent // after the list; replaced by restart
	lists  int
}

func (s *podsServer) ListPods(ctx context.Context, _ *podsv1alpha1.ListPodsRequest) (*podsv1alpha1.ListPodsResponse, error) {
	s.mu.Lock()
	s.lists++
	pods, fail, hang := s.pods, s.fail, s.hang
	s.mu.Unlock()
	if hang { // an answer at the deadline could still come in time
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &podsv1alpha1.ListPodsResponse{Pods: pods}, fail
}

func (s *podsServer) WatchPods(_ *podsv1alpha1.WatchPodsRequest, stream grpc.ServerStreamingServer[podsv1alpha1.WatchPodsEvent]) error {
	s.mu.Lock()
	pods, fail, events := s.pods, s.fail, s.events
	s.mu.Unlock()
	if fail != nil {
		return fail
	}
	for _, pod := range pods {
		if err := stream.Send(&podsv1alpha1.WatchPodsEvent{Type: podsv1alpha1.EventType_ADDED, Pod: pod}); err != nil {
			return err
		}
	}
	if err := stream.Send(&podsv1alpha1.WatchPodsEvent{Type: podsv1alpha1.EventType_INITIAL_SYNC_COMPLETE}); err != nil {
		return err
	}
	for {
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case event, ok := <-events:
			if !ok {
				return status.Error(codes.ResourceExhausted, "watch client channel closed")
			}
			if err := stream.Send(event); err != nil {
				return err
			}
		}
	}
}

// say changes what lists hold.
func (s *podsServer) say(fail error, pods ...*corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail, s.pods = fail, nil
	for _, pod := range pods {
		s.pods = append(s.pods, encode(pod))
	}
}

func (s *podsServer) event(kind podsv1alpha1.EventType, pod *corev1.Pod) {
	s.events <- &podsv1alpha1.WatchPodsEvent{Type: kind, Pod: encode(pod)}
}

// cut ends the watches the way an overrun kubelet does.
func (s *podsServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.events)
	s.events = make(chan *podsv1alpha1.WatchPodsEvent, 10)
}

func encode(pod *corev1.Pod) []byte {
	bytes, err := pod.Marshal()
	if err != nil {
		panic(err)
	}
	return bytes
}

// pod is a pod of the API server as a kubelet shows it.
func pod(name, uid string, ready corev1.ConditionStatus, since int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(uid),
			Annotations: map[string]string{sourceAnnotation: sourceAPI},
		},
		Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.ContainersReady, Status: ready,
			LastTransitionTime: metav1.Date(2026, 11, 21, 3, 0, since, 0, time.UTC),
		}}},
	}
}

func static(name string) *corev1.Pod {
	p := pod(name, "hash-of-a-file", corev1.ConditionTrue, 0)
	p.Annotations[sourceAnnotation] = "file"
	return p
}

// start runs a kubelet's API and what follows it.
func start(t *testing.T, server *podsServer) *PodsAPI {
	t.Helper()
	dir, err := os.MkdirTemp("", "pods-api") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "pods-api.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server.events = make(chan *podsv1alpha1.WatchPodsEvent, 10)
	serve := grpc.NewServer()
	podsv1alpha1.RegisterPodsServer(serve, server)
	go func() { _ = serve.Serve(listener) }()
	t.Cleanup(serve.Stop)
	api, err := NewPodsAPI(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
	return api
}

// await waits until the state is as wanted.
func await(t *testing.T, api *PodsAPI, what string, is func(kube.State) bool) {
	t.Helper()
	timeout := time.NewTimer(20 * time.Second)
	defer timeout.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is(api.State()) {
		select {
		case <-timeout.C:
			t.Fatalf("%s: not so; it is %+v", what, api.State())
		case <-tick.C:
		}
	}
}

// shows tells whether the pods by name and readiness are these.
func shows(want map[string]bool) func(kube.State) bool {
	return func(state kube.State) bool {
		got := map[string]bool{}
		for _, s := range state.Pods {
			got[s.Pod.Ref.Name] = s.Pod.ContainersReady
		}
		return state.Live && cmp.Equal(want, got)
	}
}

func TestPodsAPIFollows(t *testing.T) {
	server := &podsServer{}
	server.say(nil, static("etcd"), pod("web", "1", corev1.ConditionTrue, 0))
	api := start(t, server)
	await(t, api, "the list", shows(map[string]bool{"web": true}))

	server.event(podsv1alpha1.EventType_MODIFIED, pod("web", "1", corev1.ConditionFalse, 5))
	await(t, api, "a change", shows(map[string]bool{"web": false}))
	server.event(podsv1alpha1.EventType_ADDED, pod("db", "2", corev1.ConditionTrue, 5))
	server.event(podsv1alpha1.EventType_ADDED, static("scheduler"))
	await(t, api, "a new pod", shows(map[string]bool{"web": false, "db": true}))

	// Out of order: the event of a moment before comes after.
	server.event(podsv1alpha1.EventType_MODIFIED, pod("db", "2", corev1.ConditionFalse, 4))
	server.event(podsv1alpha1.EventType_DELETED, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1"}})
	await(t, api, "an end, and nothing older", shows(map[string]bool{"db": true}))
	every := map[string]bool{"1": true, "2": true}
	if diff := cmp.Diff(map[string]string{"1": whyEnded}, api.Gone(every)); diff != "" {
		t.Errorf("gone (-want +got):\n%s", diff)
	}

	// What is no event comes with the list that follows events.
	edited := pod("db", "2", corev1.ConditionTrue, 5)
	edited.Annotations["a"] = "b"
	server.say(nil, edited)
	await(t, api, "an edited annotation", func(state kube.State) bool {
		return len(state.Pods) == 1 && state.Pods[0].Pod.Annotations["a"] == "b"
	})
}

// I1: an answer that may be partial, a failure, a cut watch: all is unknown,
// and what was known stands until there is a list that can be complete.
func TestI1PodsAPIFailures(t *testing.T) {
	server := &podsServer{}
	known := pod("web", "1", corev1.ConditionTrue, 0)
	server.say(nil, known)
	api := start(t, server)
	await(t, api, "the list", shows(map[string]bool{"web": true}))

	for name, failure := range map[string]func(){
		"an empty list":    func() { server.say(nil) },
		"static pods only": func() { server.say(nil, static("etcd")) },
		"is starting":      func() { server.say(status.Error(codes.FailedPrecondition, "Kubelet is initializing")) },
		"no such API":      func() { server.say(status.Error(codes.Unimplemented, "unknown service")) },
		"garbage": func() {
			server.mu.Lock()
			defer server.mu.Unlock()
			server.pods = [][]byte{[]byte("garbage")}
		},
		"a pod without identity": func() { server.say(nil, &corev1.Pod{}) },
		"a list that hangs":      func() { server.mu.Lock(); defer server.mu.Unlock(); server.hang = true },
	} {
		t.Run(name, func(t *testing.T) {
			failure()
			server.event(podsv1alpha1.EventType_MODIFIED, known) // a list follows
			await(t, api, "the failure is noticed", func(state kube.State) bool { return !state.Live })
			if state := api.State(); len(state.Pods) != 1 || !state.Pods[0].Pod.ContainersReady || state.Problem == "" || !state.Synced {
				t.Errorf("after the failure: %+v", state)
			}
			if gone := api.Gone(map[string]bool{"1": true}); len(gone) != 0 {
				t.Errorf("gone: %v", gone)
			}
			server.mu.Lock()
			server.hang = false
			server.mu.Unlock()
			server.say(nil, known)
			await(t, api, "it mends by itself", shows(map[string]bool{"web": true}))
		})
	}
	t.Run("a watch that is cut off", func(t *testing.T) {
		server.say(nil, known, pod("db", "2", corev1.ConditionTrue, 0))
		server.cut()
		await(t, api, "the list is read again", shows(map[string]bool{"web": true, "db": true}))
	})
}

func TestNoSocket(t *testing.T) {
	api, err := NewPodsAPI(filepath.Join(t.TempDir(), "none.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- api.Run(ctx) }()
	await(t, api, "it says why", func(state kube.State) bool {
		return !state.Live && !state.Synced && len(state.Problem) > 20 && state.Problem != "it has not answered yet"
	})
	t.Log(api.State().Problem)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Whatever the bytes: no panic, and nothing without identity is taken in.
func FuzzHear(f *testing.F) {
	f.Add(int32(1), encode(pod("web", "1", corev1.ConditionTrue, 0)))
	f.Add(int32(3), encode(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "1"}}))
	f.Add(int32(4), []byte(nil))
	f.Add(int32(9), []byte("garbage"))
	f.Fuzz(func(t *testing.T, kind int32, bytes []byte) {
		store := kube.NewStore()
		err := hear(store, &podsv1alpha1.WatchPodsEvent{Type: podsv1alpha1.EventType(kind), Pod: bytes})
		for _, s := range store.State().Pods {
			if err != nil || s.Pod.Ref.UID == "" || s.Pod.Ref.Name == "" || s.Pod.Ref.Namespace == "" {
				t.Errorf("%+v was taken in, error %v", s, err)
			}
		}
	})
}
