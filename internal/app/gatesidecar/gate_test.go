package gatesidecar

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"fairway.dev/fairway/internal/rpc/node"
)

// The tests in this file are about an agent that is away or says no; with the
// real one, package agent tests this process.

// scripted is an agent whose calls of Drain end as the script says, the last
// entry for ever: nil is a drain that is done.
type scripted struct {
	node.UnimplementedNodeServer

	says *node.Progress // before the end, if any

	mu     sync.Mutex
	script []error
	tokens []string
}

func (s *scripted) Drain(_ *node.DrainRequest, stream grpc.ServerStreamingServer[node.Progress]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	md, _ := metadata.FromIncomingContext(stream.Context())
	s.tokens = append(s.tokens, md.Get("authorization")...)
	if s.says != nil {
		if err := stream.Send(s.says); err != nil {
			return err
		}
	}
	err := s.script[0]
	if len(s.script) > 1 {
		s.script = s.script[1:]
	}
	if err != nil {
		return err
	}
	return stream.Send(&node.Progress{Done: true, Reason: "OutOfService", Message: "it is out"})
}

// serve starts the agent and returns its address.
func (s *scripted) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	node.RegisterNodeServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func options(t *testing.T, agent string) Options {
	t.Helper()
	o := Default()
	o.Agent, o.Listen, o.Settle = agent, "127.0.0.1:0", 0
	o.TokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(o.TokenFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// start runs the process; stop asks it to end and waits until it has.
func start(t *testing.T, o Options) (url string, stop func() error) {
	t.Helper()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	g := New(o, slog.New(slog.NewTextHandler(t.Output(), nil)))
	at := make(chan net.Addr, 1)
	g.Listening = func(a net.Addr) { at <- a }
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	return "http://" + (<-at).String(), stop
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// A drain goes on through what a restart of the agent looks like from here.
func TestDrainIsTriedAgain(t *testing.T) {
	s := &scripted{script: []error{
		status.Error(codes.Unavailable, "the agent stops"), status.Error(codes.Unavailable, "no keys yet"), nil,
	}}
	url, stop := start(t, options(t, s.serve(t)))
	if code, body := get(t, url+"/drain"); code != http.StatusOK || body != "OutOfService: it is out" {
		t.Errorf("%d %s", code, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, token := range s.tokens {
		if token != "Bearer secret" {
			t.Errorf("the agent was shown %q", token)
		}
	}
}

// /drain never hangs: it answers at its deadline, and says what was wrong.
func TestDrainEndsAtItsDeadline(t *testing.T) {
	refusing := &scripted{script: []error{status.Error(codes.Unauthenticated, "the token is refused: it has expired")}}
	for name, test := range map[string]struct {
		edit func(*Options)
		want string
	}{
		"no agent":      {func(o *Options) { o.Agent = "127.0.0.1:1" }, "the node's agent: Unavailable: "},
		"token refused": {func(*Options) {}, "the node's agent: Unauthenticated: the token is refused: it has expired"},
		"no token":      {func(o *Options) { o.TokenFile += "-missing" }, "read the pod's token: "},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, refusing.serve(t))
			o.DrainTimeout = 500 * time.Millisecond
			test.edit(&o)
			url, stop := start(t, o)
			began := time.Now()
			code, body := get(t, url+"/drain")
			if code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "not confirmed out of service within 500ms: "+test.want) {
				t.Errorf("%d %s", code, body)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("answer and stop took %s", took)
			}
		})
	}
}

// At the deadline the last words of the agent stay, whoever notices it first.
func TestTheEndDoesNotHideTheReason(t *testing.T) {
	s := &scripted{
		says:   &node.Progress{Reason: "StillAtServers", Message: "the servers still give it"},
		script: []error{status.Error(codes.DeadlineExceeded, "stream terminated")},
	}
	o := options(t, s.serve(t))
	o.DrainTimeout = 500 * time.Millisecond
	url, stop := start(t, o)
	const want = "not confirmed out of service within 500ms: StillAtServers: the servers still give it, since "
	if code, body := get(t, url+"/drain"); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, want) {
		t.Errorf("%d %s", code, body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Clients get time to see what the servers have dropped, also when the process
// is asked to stop meanwhile; and the hook gets its answer.
func TestDrainSettles(t *testing.T) {
	s := &scripted{script: []error{nil}}
	o := options(t, s.serve(t))
	o.Settle = 300 * time.Millisecond
	url, stop := start(t, o)
	began := time.Now()
	stopped := make(chan error, 1)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if code, body := get(t, url+"/drain"); code != http.StatusOK {
			t.Errorf("%d %s", code, body)
		}
	}()
	for len(shown(s)) == 0 { // the hook's request is there
		if code, _ := get(t, url+"/healthz"); code != http.StatusOK {
			t.Fatal("not healthy")
		}
	}
	go func() { stopped <- stop() }()
	<-answered
	if took := time.Since(began); took < o.Settle {
		t.Errorf("answered after %s", took)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// As a container of the pod the process gets its signal together with the app,
// and is still there when the app's hook comes.
func TestHookAfterTheSignal(t *testing.T) {
	s := &scripted{script: []error{nil}}
	o := options(t, s.serve(t))
	o.Settle = time.Second
	url, stop := start(t, o)
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for len(shown(s)) == 0 { // the signal has caused a drain
		if code, _ := get(t, url+"/healthz"); code != http.StatusOK {
			t.Fatal("not healthy")
		}
	}
	if code, body := get(t, url+"/drain"); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func shown(s *scripted) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

func TestOptions(t *testing.T) {
	t.Setenv("HOST_IP", "2001:db8::1")
	if o := Default(); o.Agent != "[2001:db8::1]:9981" || o.Validate() != nil {
		t.Errorf("agent %q, %v", o.Agent, o.Validate())
	}
	t.Setenv("HOST_IP", "")
	o := Default()
	o.DrainTimeout, o.Settle, o.TokenFile, o.Listen = 0, -1, "", "x"
	err := o.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"HOST_IP", "--agent", "--listen", "--token-file", "--drain-timeout", "--settle"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}
