package kubelet

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func listOf(pods ...*corev1.Pod) string {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	for _, pod := range pods {
		list.Items = append(list.Items, *pod)
	}
	body, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// I1: what is not a list of pods that can be complete is no list.
func TestI1ReadList(t *testing.T) {
	good := listOf(static("etcd"), pod("web", "1", corev1.ConditionTrue, 0))
	for name, c := range map[string]struct {
		code int
		body string
		fail string // in the error; empty: it is a list
	}{
		"a list":                  {http.StatusOK, good, ""},
		"a list, but an error":    {http.StatusInternalServerError, good, "status 500"},
		"forbidden":               {http.StatusForbidden, "Forbidden (user=x, verb=get, resource=nodes, subresource=pods)", "Forbidden"},
		"a redirect":              {http.StatusFound, good, "status 302"},
		"empty":                   {http.StatusOK, listOf(), "not complete"},
		"static pods only":        {http.StatusOK, listOf(static("etcd")), "not complete"},
		"nothing":                 {http.StatusOK, "", "not JSON"},
		"half of it":              {http.StatusOK, good[:len(good)/2], "not JSON"},
		"a status":                {http.StatusOK, `{"kind":"Status","apiVersion":"v1","status":"Failure"}`, "not a list of pods"},
		"a list of another group": {http.StatusOK, strings.Replace(good, `"v1"`, `"x/v1"`, 1), "not a list of pods"},
		"no kind":                 {http.StatusOK, `{"items":null}`, "not a list of pods"},
	} {
		t.Run(name, func(t *testing.T) {
			pods, err := readList(c.code, []byte(c.body))
			if c.fail == "" && (err != nil || len(pods) != 1) || c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail) || pods != nil) {
				t.Errorf("%d pods, error %v; want %q", len(pods), err, c.fail)
			}
		})
	}
}

func FuzzReadList(f *testing.F) {
	f.Add(http.StatusOK, []byte(listOf(pod("web", "1", corev1.ConditionTrue, 0))))
	f.Add(http.StatusForbidden, []byte("Forbidden"))
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		if pods, err := readList(code, body); err == nil && len(pods) == 0 {
			t.Error("an empty list passed")
		}
	})
}

// It logs in, checks who answers, and does not take its token elsewhere.
func TestPodListAsks(t *testing.T) {
	var got *http.Request
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = w.Write([]byte(listOf(pod("web", "1", corev1.ConditionTrue, 0))))
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	address := strings.TrimPrefix(server.URL, "https://")
	list, err := NewPodList(&rest.Config{BearerToken: "secret", TLSClientConfig: rest.TLSClientConfig{CAData: ca}}, address)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state := list.State(); !state.Synced || len(state.Pods) != 1 {
		t.Errorf("state %+v", state)
	}
	if got.URL.Path != "/pods" || got.Header.Get("Authorization") != "Bearer secret" {
		t.Errorf("it asked %s as %q", got.URL, got.Header.Get("Authorization"))
	}
	stranger, err := NewPodList(&rest.Config{BearerToken: "secret"}, address)
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	if err := stranger.poll(t.Context()); err == nil || got != nil {
		t.Errorf("a certificate that nobody vouches for: error %v, request %v", err, got)
	}
}

func TestPodListAddress(t *testing.T) {
	for address, want := range map[string]string{
		"198.18.0.21":      "https://198.18.0.21:10250/pods",
		"198.18.0.21:7":    "https://198.18.0.21:7/pods",
		"2001:db8::1":      "https://[2001:db8::1]:10250/pods",
		"[2001:db8::1]:77": "https://[2001:db8::1]:77/pods",
		"n1":               "https://n1:10250/pods",
	} {
		list, err := NewPodList(&rest.Config{}, address)
		if err != nil || list.url != want {
			t.Errorf("%s: %s, %v; want %s", address, list.url, err, want)
		}
	}
}

// A kubelet that ends is noticed by its connection, and again when it is back.
func TestWatchRestarts(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	restarts := make(chan struct{}, 10)
	done := make(chan error, 1)
	go func() {
		done <- WatchRestarts(ctx, listener.Addr().String(), func() { restarts <- struct{}{} })
	}()
	life := func() net.Conn {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first := life()
	if len(restarts) > 0 {
		t.Error("the first sight of the kubelet counts as a restart")
	}
	first.Close()
	<-restarts
	second := life()
	<-restarts
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || len(restarts) > 0 {
		t.Errorf("%v, %d restarts more", err, len(restarts))
	}
	if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the connection is left open")
	}
}
