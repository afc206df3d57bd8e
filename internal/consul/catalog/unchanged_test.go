package catalog_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// counter counts the bytes of answers.
type counter struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (c counter) Write(p []byte) (int, error) {
	c.bytes.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// To look again costs next to nothing where nobody has written, and where somebody
// has, whoever and whatever it was, that is seen.
func TestLooksAgainOnlyAtWhatWasWritten(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	upstream, err := url.Parse(c.Server.Address)
	if err != nil {
		t.Fatal(err)
	}
	var answered atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(upstream)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept-Encoding") // else the answers are compressed
		proxy.ServeHTTP(counter{w, &answered}, r)
	}))
	t.Cleanup(front.Close)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(c.Token(consultest.CatalogRules)), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := consul.New(consul.Config{Address: front.URL, TokenFile: tokenFile, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := catalog.New(catalog.Options{Client: client, Cluster: "east", Node: "n1", Address: netip.MustParseAddr("198.18.0.21")})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{Registry: registry, t: t}
	s.observe()
	s.applyAll(registration.Register, many(100))
	cost := func() int64 {
		before := answered.Load()
		s.observe()
		return answered.Load() - before
	}
	if whole := cost(); whole < 50_000 {
		t.Fatalf("100 entries took %d bytes, which proves nothing", whole)
	}

	node := catalog.NodeName("east", "n1")
	first, second, third := web(1, service.Passing).ID, web(2, service.Passing).ID, web(3, service.Passing).ID
	for _, edit := range []struct {
		what string
		op   api.TxnOp
		seen func(map[string]registration.Entry) bool
	}{
		{
			"a check",
			api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
				Node: node, CheckID: first, ServiceID: first, Status: api.HealthCritical,
			}}},
			func(by map[string]registration.Entry) bool { return by[first].Instance.Health == service.Critical },
		},
		{
			"a check is gone",
			api.TxnOp{Check: &api.CheckTxnOp{Verb: api.CheckDelete, Check: api.HealthCheck{Node: node, CheckID: second}}},
			func(by map[string]registration.Entry) bool { return !by[second].HasCheck },
		},
		{
			"a service",
			api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: api.AgentService{ID: second, Service: "web", Port: 9}}},
			func(by map[string]registration.Entry) bool { return by[second].Instance.Port == 9 },
		},
		{
			"a service is gone",
			api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceDelete, Node: node, Service: api.AgentService{ID: third, Service: "web"}}},
			func(by map[string]registration.Entry) bool { return len(by) == 99 && by[third].Instance.ID == "" },
		},
		{
			"another service",
			api.TxnOp{Service: &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: api.AgentService{ID: "by-hand", Service: "web"}}},
			func(by map[string]registration.Entry) bool { return by["by-hand"].Instance.Name == "web" },
		},
		{
			"the node",
			api.TxnOp{Node: &api.NodeTxnOp{Verb: api.NodeSet, Node: api.Node{
				Node: node, Address: "198.18.0.99", Meta: map[string]string{service.MetaCluster: "east", service.MetaNode: "n1"},
			}}},
			func(by map[string]registration.Entry) bool { return by[first].Lapsed },
		},
	} {
		if again := cost(); again > 1000 {
			t.Errorf("before %q: what has not changed took %d bytes", edit.what, again)
		}
		if entries, changed, err := registry.Refresh(t.Context()); err != nil || changed || entries != nil {
			t.Errorf("before %q: %d entries, changed %t: %v", edit.what, len(entries), changed, err)
		}
		if ok, answer, _, err := c.Management().Txn().Txn(api.TxnOps{&edit.op}, nil); err != nil || !ok {
			t.Fatalf("%s: %s, %v", edit.what, faults(answer), err)
		}
		entries, changed, err := registry.Refresh(t.Context())
		if err != nil || !changed {
			t.Errorf("%s: changed %t: %v", edit.what, changed, err)
		}
		for _, entries := range [][]registration.Entry{entries, s.observe()} {
			by := map[string]registration.Entry{}
			for _, entry := range entries {
				by[entry.Instance.ID] = entry
			}
			if !edit.seen(by) {
				t.Errorf("not seen: %s", edit.what)
			}
		}
	}
}

// faults are what Consul says against a transaction.
func faults(answer *api.TxnResponse) (all []string) {
	for _, fault := range answer.Errors {
		all = append(all, fault.What)
	}
	return all
}
