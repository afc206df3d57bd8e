package fault

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestOffPassesThrough(t *testing.T) {
	for _, version := range versions() {
		t.Run(version, func(t *testing.T) {
			s := newSetup(t, version)
			got := s.get(t, "/echo?a=b")
			if got.code != http.StatusTeapot || got.header.Get("X-Upstream") != "yes" {
				t.Errorf("answer %+v is not the upstream's", got)
			}
			// Nothing that tells of the proxy is added.
			if want := "GET /echo?a=b Bearer secret xff="; got.body != want {
				t.Errorf("upstream saw %q, want %q", got.body, want)
			}
			if got.proto != version {
				t.Errorf("the client spoke %s, want %s", got.proto, version)
			}
		})
	}
}

func TestEventsArriveOneByOne(t *testing.T) {
	for _, version := range versions() {
		t.Run(version, func(t *testing.T) {
			s := newSetup(t, version)
			watch := s.watch(t, "/stream")
			for _, event := range []string{"one", "two", "three"} {
				s.events <- event // the next is sent when this one has arrived
				if got := watch.next(t); got != event {
					t.Fatalf("event %q, want %q", got, event)
				}
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	const (
		pods    = "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1"
		pod     = "/api/v1/namespaces/default/pods/web-0"
		slices  = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
		kubelet = "/pods"
	)
	for _, test := range []struct {
		mode     Mode
		path     string
		code     int
		contains []string
	}{
		{Forbidden, pods, 403, []string{`"kind":"Status"`, `"reason":"Forbidden"`, `"code":403`, `"message":"pods is forbidden: `}},
		{Forbidden, pod, 403, []string{`pods \"web-0\" is forbidden: `}},
		{Forbidden, slices, 403, []string{`"group":"discovery.k8s.io"`}},
		{Forbidden, "/version", 403, []string{`"message":"forbidden: `}},
		{Forbidden, kubelet, 403, []string{"pods is forbidden"}},
		{Broken, pods, 500, []string{`"kind":"Status"`, `"reason":"InternalError"`, `"code":500`}},
		{Broken, kubelet, 500, []string{"Internal error occurred"}},
		{Garbage, pods, 200, []string{garbage}},
		{Garbage, pods + "&watch=true", 200, []string{garbage}},
		{Garbage, kubelet, 200, []string{garbage}},
		{Empty, pods, 200, []string{`"kind":"PodList"`, `"apiVersion":"v1"`, `"items":[]`, `"resourceVersion":"1"`}},
		{Empty, slices, 200, []string{`"kind":"EndpointSliceList"`, `"apiVersion":"discovery.k8s.io/v1"`, `"items":[]`}},
		{Empty, "/api/v1/namespaces", 200, []string{`"kind":"NamespaceList"`}},
		{Empty, kubelet, 200, []string{`"kind":"PodList"`, `"items":null`}},
		{Empty, pod, 500, []string{`"reason":"InternalError"`}},
		{Empty, "/api/v1/namespaces/default", 500, nil},
		{Empty, "/apis/example.com/v1/unheardof", 500, nil},
		{Empty, "/healthz", 500, nil},
		{Elsewhere, pods, 200, []string{`"kind":"PodList"`, `"items":[]`}},
		{Elsewhere, pod, 404, []string{`"reason":"NotFound"`, `"name":"web-0"`, `"kind":"pods"`}},
		{Elsewhere, pods + "&watch=true&resourceVersion=4711", 410, []string{`"reason":"Expired"`}},
		{Elsewhere, kubelet, 200, []string{`"kind":"PodList"`, `"items":null`}},
		{Elsewhere, "/healthz", 500, nil},
	} {
		t.Run(string(test.mode)+test.path, func(t *testing.T) {
			s := newSetup(t, "HTTP/2.0")
			s.proxy.SetMode(test.mode)
			got := s.get(t, test.path)
			if got.code != test.code {
				t.Errorf("code %d, want %d", got.code, test.code)
			}
			for _, part := range test.contains {
				if !strings.Contains(got.body, part) {
					t.Errorf("the answer lacks %s:\n%s", part, got.body)
				}
			}
			isStatus := test.code != 200 && test.path != kubelet
			var status metav1.Status
			if err := json.Unmarshal([]byte(got.body), &status); isStatus && (err != nil || status.Kind != "Status" || int(status.Code) != test.code) {
				t.Errorf("the answer is no Status of %d (%v):\n%s", test.code, err, got.body)
			}
			if s.asked.Load() != 0 {
				t.Error("the upstream was asked")
			}
		})
	}
}

func TestEmptyWatch(t *testing.T) {
	for _, version := range versions() {
		t.Run(version, func(t *testing.T) {
			s := newSetup(t, version)
			s.proxy.SetMode(Empty)
			// A plain watch starts at once and has nothing to say until its time is up.
			got := s.get(t, "/api/v1/pods?watch=true&timeoutSeconds=1")
			if got.code != http.StatusOK || got.body != "" {
				t.Errorf("answer %d %q, want 200 and no events", got.code, got.body)
			}
			// One that wants the initial state is told that this was all.
			var event struct {
				Type   string
				Object metav1.PartialObjectMetadata
			}
			if err := json.Unmarshal([]byte(s.watch(t, "/api/v1/pods?watch=true&sendInitialEvents=true").next(t)), &event); err != nil {
				t.Fatal(err)
			}
			said := []string{event.Type, event.Object.Kind, event.Object.ResourceVersion, event.Object.Annotations[metav1.InitialEventsAnnotationKey]}
			if diff := cmp.Diff([]string{"BOOKMARK", "Pod", "1", "true"}, said); diff != "" {
				t.Errorf("event (-want +got):\n%s", diff)
			}
		})
	}
}

// TestSwitchCutsWatches is what informers in tests rely on: after any switch, a
// watch that runs breaks, and the next request meets the new mode.
func TestSwitchCutsWatches(t *testing.T) {
	for _, version := range versions() {
		t.Run(version, func(t *testing.T) {
			s := newSetup(t, version)
			for _, mode := range Modes() {
				s.proxy.SetMode(Off)
				watch := s.watch(t, "/stream")
				s.events <- "before"
				watch.next(t)
				s.proxy.SetMode(mode)
				watch.expectCut(t)
			}
			s.proxy.SetMode(Empty)
			watch := s.watch(t, "/api/v1/pods?watch=true&sendInitialEvents=true")
			watch.next(t)
			s.proxy.SetMode(Off)
			watch.expectCut(t)
			if got := s.get(t, "/echo"); got.code != http.StatusTeapot {
				t.Errorf("after the faults the upstream does not answer: %+v", got)
			}
		})
	}
}

// TestRequestEndsWithItsEra covers what a cut connection alone does not do: the
// server does not notice it while the body of a request is unread.
func TestRequestEndsWithItsEra(t *testing.T) {
	s := newSetup(t, "HTTP/1.1")
	s.proxy.SetMode(Hang)
	ended := make(chan any)
	go func() {
		defer func() { ended <- recover() }()
		s.proxy.serve(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/upload", nil))
	}()
	deadline := time.After(10 * time.Second)
	for {
		s.proxy.SetMode(Hang) // until one of these finds the request begun
		select {
		case end := <-ended:
			if err, ok := end.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				t.Errorf("the request ended with %v, want no answer", end)
			}
			return
		case <-deadline:
			t.Fatal("the request outlived its era")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestHangSaysNothing(t *testing.T) {
	for _, version := range versions() {
		t.Run(version, func(t *testing.T) {
			s := newSetup(t, version)
			s.proxy.SetMode(Hang)
			s.client.Timeout = 300 * time.Millisecond
			response, err := s.client.Get(s.url + "/echo")
			if err == nil {
				response.Body.Close()
			}
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("error = %v, want a timeout", err)
			}
			if s.asked.Load() != 0 {
				t.Error("the upstream was asked")
			}
		})
	}
}

func TestUpstreamAway(t *testing.T) {
	for _, version := range versions() {
		t.Run(version, func(t *testing.T) {
			s := newSetup(t, version)
			s.upstream.Close()
			if response, err := s.client.Get(s.url + "/echo"); err == nil {
				response.Body.Close()
				t.Errorf("answer %d: a server that is away answers nothing", response.StatusCode)
			}
		})
	}
}

func TestControl(t *testing.T) {
	s := newSetup(t, "HTTP/1.1")
	socket := filepath.Join(t.TempDir(), "control")
	for range 2 { // the second takes over what the first leaves behind
		l, err := ListenControl(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		if l, ok := l.(*net.UnixListener); ok {
			l.SetUnlinkOnClose(false)
		}
		control := &http.Server{Handler: s.proxy.ControlHandler()}
		go func() { _ = control.Serve(l) }()
		for _, mode := range Modes() {
			if err := SetMode(t.Context(), socket, mode); err != nil {
				t.Fatal(err)
			}
			if got, err := GetMode(t.Context(), socket); err != nil || got != mode || s.proxy.Mode() != mode {
				t.Errorf("mode = %s (%v), want %s", got, err, mode)
			}
		}
		if err := SetMode(t.Context(), socket, "flood"); err == nil || !strings.Contains(err.Error(), `no fault is called "flood"`) {
			t.Errorf("error for an unknown mode = %v", err)
		}
		if _, err := ListenControl(t.Context(), socket); err == nil {
			t.Error("the socket of a running proxy was taken over")
		}
		control.Close()
	}
}

// watch is a response that is still being written.
type watch struct {
	body  io.ReadCloser
	lines *bufio.Reader
}

func (w *watch) next(t *testing.T) string {
	t.Helper()
	line, err := w.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("the watch ended: %v", err)
	}
	return strings.TrimSpace(line)
}

// expectCut fails if the watch goes on or ends in good order.
func (w *watch) expectCut(t *testing.T) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := w.lines.ReadString('\n')
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the watch was not cut (%v)", err)
		}
	case <-time.After(10 * time.Second):
		w.body.Close()
		t.Error("the watch outlived the switch")
	}
}
