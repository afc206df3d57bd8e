package fault

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// setup is a proxy before a real TLS server, and a client of the proxy.
type setup struct {
	proxy    *Proxy
	upstream *httptest.Server
	client   *http.Client
	url      string
	asked    atomic.Int64 // requests that reached the upstream
	events   chan string  // what the upstream's /stream sends
}

// versions are those of HTTP that clients of a Kubernetes server speak.
func versions() []string { return []string{"HTTP/1.1", "HTTP/2.0"} }

func newSetup(t *testing.T, version string) *setup {
	t.Helper()
	http2 := version == "HTTP/2.0"
	s := &setup{events: make(chan string)}
	s.upstream = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.upstream.EnableHTTP2 = http2
	s.upstream.StartTLS()
	t.Cleanup(s.upstream.Close)

	authorities := x509.NewCertPool()
	authorities.AddCert(s.upstream.Certificate())
	target, err := url.Parse(s.upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.proxy = New(Options{
		Certificate: s.upstream.TLS.Certificates[0],
		Upstream:    target,
		UpstreamCAs: authorities,
		Log:         slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.proxy.Serve(l) }()
	s.url = "https://" + l.Addr().String()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}, ForceAttemptHTTP2: http2}
	s.client = &http.Client{Transport: bearer{transport}, Timeout: 30 * time.Second}
	t.Cleanup(func() {
		if err := s.proxy.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		transport.CloseIdleConnections()
	})
	return s
}

// serve is the upstream.
func (s *setup) serve(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if r.URL.Path != "/stream" {
		w.Header().Set("X-Upstream", "yes")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s xff=%s", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-For"))
		return
	}
	flush := http.NewResponseController(w).Flush
	for {
		if err := flush(); err != nil {
			return
		}
		select {
		case event := <-s.events:
			fmt.Fprintln(w, event)
		case <-r.Context().Done():
			return
		}
	}
}

// answered is a response that was read to its end.
type answered struct {
	code   int
	proto  string
	header http.Header
	body   string
}

func (s *setup) get(t *testing.T, path string) answered {
	t.Helper()
	response, err := s.client.Get(s.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{response.StatusCode, response.Proto, response.Header, string(body)}
}

func (s *setup) watch(t *testing.T, path string) *watch {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return &watch{body: response.Body, lines: bufio.NewReader(response.Body)}
}

// bearer adds a token to each request.
type bearer struct{ http.RoundTripper }

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer secret")
	return b.RoundTripper.RoundTrip(r)
}
