package discovery_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/discovery"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

var web = consulimport.Origin{Name: "web"}

// here is where services are by default.
var here = consulimport.Where{}

// reader follows services of a Consul until the test ends.
type reader struct {
	*discovery.Source
	t *testing.T
}

func follow(t *testing.T, c *consultest.Cluster, token string, holds int) reader {
	t.Helper()
	client, _ := c.Server.FairwayClient(token)
	s, err := discovery.New(client, holds)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return reader{s, t}
}

// until waits for an answer about a service of which a test is true.
func (r reader) until(origin consulimport.Origin, what string, test func(consulimport.Answer) bool) consulimport.Answer {
	r.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		_, answers := r.View()
		answer, known := answers[origin]
		if known && test(answer) {
			return answer
		}
		select {
		case <-r.Changed():
		case <-deadline:
			r.t.Fatalf("not within 30 s: %s; the answer: %+v", what, answer)
		}
	}
}

func register(t *testing.T, c *consultest.Cluster, change ...func(*api.CatalogRegistration)) {
	t.Helper()
	r := &api.CatalogRegistration{
		Node: "vm-1", Address: "198.18.0.99", Service: &api.AgentService{ID: "web-1", Service: "web", Port: 8080},
		Check: &api.AgentCheck{CheckID: "web-1", ServiceID: "web-1", Status: api.HealthPassing},
	}
	for _, c := range change {
		c(r)
	}
	if _, err := c.Management().Catalog().Register(r, nil); err != nil {
		t.Fatal(err)
	}
}

func status(status string) func(*api.CatalogRegistration) {
	return func(r *api.CatalogRegistration) { r.Check.Status = status }
}

func has(n int) func(consulimport.Answer) bool {
	return func(a consulimport.Answer) bool { return a.Problem == "" && len(a.Instances) == n }
}

func shows(health service.Health) func(consulimport.Answer) bool {
	return func(a consulimport.Answer) bool { return len(a.Instances) == 1 && a.Instances[0].Health == health }
}

// Every change of an instance is told as it happens, as clients see it.
func TestAnInstancesLife(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	r := follow(t, c, c.ManagementToken(), 4)
	r.Follow(nil, []consulimport.Origin{web}, nil)
	none := r.until(web, "nobody has the service", has(0))
	if none.Filtered || none.Stale || none.Index == 0 || none.Asked.IsZero() {
		t.Errorf("the answer that there is none: %+v", none.Read)
	}

	register(t, c, func(r *api.CatalogRegistration) {
		r.Service.Tags = []string{"v1"}
		r.Service.Meta = map[string]string{service.MetaCluster: "east", "port-metrics": "9090", "port-none": "http"}
		r.Service.Weights = api.AgentWeights{Passing: 5, Warning: 1}
		r.Service.TaggedAddresses = map[string]api.ServiceAddress{"lan_ipv6": {Address: "2001:db8::1", Port: 8081}, "virtual": {Address: "web.internal", Port: 1}}
		r.Service.Locality = &api.Locality{Region: "eu", Zone: "eu-1"}
	})
	got := r.until(web, "it is registered", has(1))
	want := []consulimport.Instance{{
		ID: "web-1", Node: "vm-1", Health: service.Passing, Address: netip.MustParseAddr("198.18.0.99"), Port: 8080,
		Tagged: map[string]netip.AddrPort{"lan_ipv6": netip.MustParseAddrPort("[2001:db8::1]:8081")},
		Ports:  map[string]uint16{"metrics": 9090}, Tags: []string{"v1"}, Cluster: "east", Zone: "eu-1",
		Weights: service.Weights{Passing: 5, Warning: 1},
	}}
	if diff := cmp.Diff(want, got.Instances, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("the instance (-want +got):\n%s", diff)
	}
	if got.Index <= none.Index {
		t.Errorf("index %d after %d", got.Index, none.Index)
	}

	for _, state := range []service.Health{service.Critical, service.Warning, service.Passing} {
		register(t, c, status(string(state)))
		r.until(web, "it is "+string(state), shows(state))
	}
	register(t, c, func(r *api.CatalogRegistration) {
		r.Service, r.Check = nil, &api.AgentCheck{Node: "vm-1", CheckID: api.NodeMaint, Status: api.HealthCritical}
	})
	r.until(web, "its node is in maintenance", shows(service.Critical))
	register(t, c, func(r *api.CatalogRegistration) {
		r.Node, r.Service.ID, r.Service.Address, r.Check = "vm-2", "web-2", "web.example.com", nil
	})
	hosted := r.until(web, "there is one with a host name", has(2)).Instances[1]
	if hosted.Host != "web.example.com" || hosted.Address.IsValid() || hosted.Health != service.Passing {
		t.Errorf("by host name: %+v", hosted)
	}
	for _, node := range []string{"vm-1", "vm-2"} {
		if _, err := c.Management().Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil); err != nil {
			t.Fatal(err)
		}
	}
	r.until(web, "nobody has it any more", has(0))
	r.Follow(nil, nil, nil)
	consultest.Eventually(t, "what nobody asks for is not shown", func() error {
		if _, answers := r.View(); len(answers) > 0 {
			return fmt.Errorf("%v", answers)
		}
		return nil
	})
}

// Which services there are is told, too, but for those of a filtered answer.
func TestListing(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	register(t, c)
	r := follow(t, c, c.ManagementToken(), 4)
	blind := follow(t, c, c.Token(`service_prefix "db" { policy = "read" }`), 4)
	for _, r := range []reader{r, blind} {
		r.Follow([]consulimport.Where{here}, nil, nil)
	}
	names := func(r reader, want ...string) {
		t.Helper()
		consultest.Eventually(t, strings.Join(want, " and ")+" are listed", func() error {
			listings, _ := r.View()
			if diff := cmp.Diff(want, listings[here].Names); diff != "" || listings[here].Index == 0 {
				return fmt.Errorf("%+v", listings[here])
			}
			return nil
		})
	}
	names(r, "consul", "web")
	register(t, c, func(r *api.CatalogRegistration) { r.Service.ID, r.Service.Service, r.Check = "db-1", "db", nil })
	names(r, "consul", "db", "web")
	consultest.Eventually(t, "who may not see all is told so", func() error {
		if listings, _ := blind.View(); !listings[here].Filtered {
			return fmt.Errorf("%+v", listings[here])
		}
		return nil
	})
}

// I1: an answer that proves nothing says so, and why.
func TestI1WhatIsNotKnownSaysWhy(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false, map[string]any{"peering": map[string]any{"enabled": true}, "connect": map[string]any{"enabled": true}})
	register(t, c)
	const read = consultest.ImportRules
	for name, tt := range map[string]struct {
		rules  string
		origin consulimport.Origin
		says   string // empty: it is filtered
	}{
		"no right to see the service": {`node_prefix "" { policy = "read" }`, web, ""},
		"no right to see its node":    {`service_prefix "" { policy = "read" }`, web, ""},
		"no such datacenter":          {read, consulimport.Origin{Name: "web", Where: consulimport.Where{Datacenter: "dc9"}}, `Consul has no path to datacenter "dc9"`},
		"a namespace":                 {read, consulimport.Origin{Name: "web", Where: consulimport.Where{Namespace: "shop"}}, "Namespaces are a Consul Enterprise feature"},
		"no such peer":                {read + consultest.PeerRule, consulimport.Origin{Name: "web", Where: consulimport.Where{Peer: "east"}}, `Consul has no cluster peer "east"`},
		"no right to see peers":       {read, consulimport.Origin{Name: "web", Where: consulimport.Where{Peer: "east"}}, "without the right to read peerings"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := follow(t, c, c.Token(tt.rules), 4)
			r.t = t
			r.Follow(nil, []consulimport.Origin{tt.origin}, nil)
			r.until(tt.origin, "it is not known", func(a consulimport.Answer) bool {
				return tt.says == "" && a.Filtered || tt.says != "" && strings.Contains(a.Problem, tt.says)
			})
		})
	}
}

// I1: while Consul is away the last answer stands for a moment, and is unknown
// then; when it is back it is known again, and what happened meanwhile.
func TestI1ConsulAway(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	register(t, c)
	r := follow(t, c, c.ManagementToken(), 4)
	r.Follow(nil, []consulimport.Origin{web}, nil)
	before := r.until(web, "it is registered", has(1))
	stopped := time.Now()
	c.Server.Stop()
	r.until(web, "it is unknown", func(a consulimport.Answer) bool { return a.Problem != "" })
	if after := time.Since(stopped); after < 4*time.Second {
		t.Errorf("unknown after %s; that may be an election", after)
	}
	c.Server.Start()
	c.WaitReady()
	if back := r.until(web, "it is known again", has(1)); back.Index < before.Index {
		t.Errorf("index %d after %d", back.Index, before.Index)
	}
	register(t, c, status(api.HealthCritical))
	r.until(web, "it is critical", shows(service.Critical))
}

// I1: servers that have lost their data show by their index that it is not the one
// from before.
func TestI1WipedServersHaveALowerIndex(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	for n := range 30 {
		register(t, c, func(r *api.CatalogRegistration) { r.Service.Tags = []string{fmt.Sprint(n)} })
	}
	r := follow(t, c, c.ManagementToken(), 4)
	r.Follow(nil, []consulimport.Origin{web}, nil)
	before := r.until(web, "it is registered", has(1))
	c.Server.Wipe()
	c.Server.Start()
	c.WaitReady()
	after := r.until(web, "it is not there any more", has(0))
	if after.Index >= before.Index {
		t.Errorf("index %d after %d", after.Index, before.Index)
	}
}

// A question that is to be asked again is, at the time and past every question that
// is held, and its answer is told though it be the same.
func TestAgain(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	r := follow(t, c, c.ManagementToken(), 4)
	r.Follow(nil, []consulimport.Origin{web}, nil)
	r.until(web, "nobody has the service", has(0))
	after := time.Now().Add(500 * time.Millisecond)
	r.Follow(nil, []consulimport.Origin{web}, []consulimport.Question{{Origin: web, After: after}})
	again := r.until(web, "it was asked again", func(a consulimport.Answer) bool { return !a.Asked.Before(after) })
	if late := again.Asked.Sub(after); late > 5*time.Second || again.Problem != "" || len(again.Instances) > 0 {
		t.Errorf("asked %s after the time: %+v", late, again)
	}
}

// More services than questions can be held take turns, and none is forgotten.
func TestTurns(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	r := follow(t, c, c.ManagementToken(), 2)
	var origins []consulimport.Origin
	for n := range 6 {
		origins = append(origins, consulimport.Origin{Name: fmt.Sprint("s", n)})
	}
	r.Follow(nil, origins, nil)
	for _, origin := range origins {
		r.until(origin, "it was asked for", has(0))
	}
	for n, origin := range origins {
		register(t, c, func(r *api.CatalogRegistration) {
			r.Node, r.Service.ID, r.Service.Service, r.Check = fmt.Sprint("n", n), "x", origin.Name, nil
		})
	}
	for _, origin := range origins {
		r.until(origin, "it is registered", has(1))
	}
}
