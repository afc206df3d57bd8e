package consul

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// A server that asks to slow down, knows no leader, hangs or is gone is left for another that
// the same name stands for.
func TestAnotherServerIsTried(t *testing.T) {
	const slow = 200 * time.Millisecond
	for name, fail := range map[string]http.HandlerFunc{
		"429": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "slow down", http.StatusTooManyRequests) },
		"503": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "slow down", http.StatusServiceUnavailable)
		},
		"knows no leader": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
		},
		"hangs": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			var bad atomic.Pointer[string]
			var failures atomic.Int32
			serve := func(ip string, port string) string {
				listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(ip, port))
				if err != nil {
					t.Fatal(err)
				}
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if at := bad.Load(); at != nil && *at == ip {
						failures.Add(1)
						_, _ = io.Copy(io.Discard, r.Body)
						fail(w, r)
						return
					}
					_, _ = io.WriteString(w, `"`+ip+`"`)
				}))
				server.Listener.Close()
				server.Listener = listener
				server.Start()
				t.Cleanup(server.Close)
				_, port, _ = net.SplitHostPort(listener.Addr().String())
				return port
			}
			ips := []string{"127.84.0.1", "127.84.0.2"}
			port := serve(ips[0], "0")
			serve(ips[1], port)
			cfg := Config{Address: "http://servers.test:" + port, Timeout: slow}
			pool, address, err := newPool(cfg, maxConns)
			if err != nil {
				t.Fatal(err)
			}
			client, err := newClient(cfg, pool, address)
			if err != nil {
				t.Fatal(err)
			}
			pool.dialer.lookup = func(context.Context, string) ([]string, error) { return append([]string{"127.84.0.3"}, ips...), nil }

			leader := func() (string, error) { return client.Status().Leader() }
			first, err := leader()
			if err != nil {
				t.Fatal(err)
			}
			bad.Store(&first)
			_, err = leader()
			if !errors.Is(Classify(err), ErrUnavailable) && err != nil {
				t.Errorf("the server that fails: %v", err)
			}
			for range 5 {
				if second, err := leader(); err != nil || second == first {
					t.Errorf("after it failed: %q, %v", second, err)
				}
			}
			if n := failures.Load(); n != 1 {
				t.Errorf("the server that fails was asked %d times, want once", n)
			}
		})
	}
}

// Addresses that failed come last, the one that failed first before the other,
// and are forgiven after a while.
func TestDialOrder(t *testing.T) {
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	d := newDialer()
	d.failed = map[string]time.Time{"10.0.0.1:8500": now.Add(-time.Second), "10.0.0.2:8500": now.Add(-2 * time.Second), "10.0.0.3:8500": now.Add(-time.Hour)}
	got := d.order([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}, "8500", now)
	if got[2] != "10.0.0.2:8500" || got[3] != "10.0.0.1:8500" || len(d.failed) != 2 {
		t.Errorf("order %v, remembered %v", got, d.failed)
	}
}

// A token is renewed when two thirds of its life are over; a login that fails
// takes it away only when it has expired.
func TestLoginRenewal(t *testing.T) {
	start := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	expires := at(60)
	l := newLogin(nil, "k8s", "")
	boom := &Error{Kind: ErrUnavailable}

	expect := func(what string, now time.Time, token string, final bool) {
		t.Helper()
		if a, ok := l.standing(now); ok != final || a.token != token || (ok && token == "") != (a.err != nil) {
			t.Errorf("%s: %+v, %v", what, a, ok)
		}
	}
	expect("at first", at(0), "", false)
	l.settle(nil, boom, at(0))
	expect("just failed", at(0), "", true)
	expect("some time after", at(1), "", false)
	l.settle(&api.ACLToken{SecretID: "one", ExpirationTime: &expires}, nil, at(0))
	expect("fresh", at(39), "one", true)
	expect("two thirds over", at(40), "", false)
	if a := l.settle(nil, boom, at(40)); a.token != "one" || a.err != nil {
		t.Errorf("renewal failed: %+v", a)
	}
	expect("renewal just failed", at(40), "one", true)
	if a := l.settle(nil, boom, at(60)); a.token != "" || !errors.Is(a.err, ErrUnavailable) {
		t.Errorf("renewal failed and expired: %+v", a)
	}
	l.settle(&api.ACLToken{SecretID: "two"}, nil, at(61))
	expect("one that never expires", at(1_000_000), "two", true)
	if l.generation() != 2 {
		t.Errorf("generation %d, want 2", l.generation())
	}
}
