package consulimport_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// What instances become: endpoints, with their ports.
func TestEndpoints(t *testing.T) {
	dual := func(in *consulimport.Instance) {
		in.Tagged = map[string]netip.AddrPort{
			service.TaggedLANIPv4: netip.AddrPortFrom(in.Address, 8080),
			service.TaggedLANIPv6: netip.MustParseAddrPort("[fd00::7]:9090"),
			service.TaggedWANIPv6: netip.MustParseAddrPort("[2001:db8::7]:9091"),
		}
	}
	at := func(address string) func(*consulimport.Instance) {
		return func(in *consulimport.Instance) { in.Address = netip.MustParseAddr(address) }
	}
	named := func(name string, port uint16) func(*consulimport.Instance) {
		return func(in *consulimport.Instance) { in.Ports = map[string]uint16{name: port} }
	}
	ports := func(ports ...consulimport.ImportPort) consulimport.Import {
		return with(names("web"), func(in *consulimport.Import) { in.Ports = ports })
	}
	tests := []struct {
		name      string
		in        consulimport.Import
		instances []consulimport.Instance
		want      string
		note      string
	}{
		{"passing", names("web"), []consulimport.Instance{inst(1), inst(2)}, "10.0.0.1=8080 10.0.0.2=8080", ""},
		{"critical is none, warning is spare", names("web"),
			[]consulimport.Instance{inst(1), inst(2, health(service.Critical)), inst(3, health(service.Warning))}, "(10.0.0.3=8080) 10.0.0.1=8080", ""},
		{"another port", names("web"), []consulimport.Instance{inst(1), inst(2, port(9090))}, "10.0.0.1=8080 10.0.0.2=9090", ""},
		{"two at one address", names("web"), []consulimport.Instance{inst(1), inst(1, port(9090))}, "10.0.0.1=8080 10.0.0.1=9090", ""},
		{"twice the same, one passes", names("web"),
			[]consulimport.Instance{inst(1, health(service.Warning)), inst(1), inst(1, health(service.Warning))}, "10.0.0.1=8080", ""},
		{"both families", names("web"), []consulimport.Instance{inst(1, dual)}, "10.0.0.1=8080 fd00::7=9090", ""},
		{"a tagged address without a port", names("web"), []consulimport.Instance{inst(1, func(in *consulimport.Instance) {
			in.Tagged = map[string]netip.AddrPort{service.TaggedLANIPv6: netip.AddrPortFrom(netip.MustParseAddr("fd00::7"), 0)}
		})}, "10.0.0.1=8080 fd00::7=8080", ""},
		{"both families of another datacenter", with(names("web"), func(in *consulimport.Import) { in.Where.Datacenter = "dc2" }),
			[]consulimport.Instance{inst(1, dual)}, "10.0.0.1=8080 2001:db8::7=9091", ""},
		{"an address no endpoint can have", names("web"), []consulimport.Instance{inst(1), inst(2, at("127.0.0.1")), inst(3, at("fe80::1%eth0")), inst(4, at("::"))},
			"10.0.0.1=8080", "instances without an address that an endpoint can have: 3"},
		{"IPv4 in IPv6", names("web"), []consulimport.Instance{inst(1, at("::ffff:10.0.0.9"))}, "10.0.0.9=8080", ""},
		{"host name", names("web"), []consulimport.Instance{inst(1), inst(2, host("db.example.com"))}, "10.0.0.1=8080",
			"instances registered by host name, which only target.type ExternalName can show: 1"},
		{"no port", names("web"), []consulimport.Instance{inst(1), inst(2, port(0))}, "10.0.0.1=8080",
			"instances without the port (give target.ports a number): 1"},
		{"no further port", ports(consulimport.ImportPort{Consul: "grpc"}), []consulimport.Instance{inst(1, named("grpc", 9100)), inst(2)}, "10.0.0.1=9100",
			`instances without the port (none is called "grpc", as a consulPort of target.ports says): 1`},
		{"no port, the import's", ports(consulimport.ImportPort{Port: 53, Protocol: "UDP"}), []consulimport.Instance{inst(1), inst(2, port(0))},
			"10.0.0.1=8080 10.0.0.2=53", ""},
		{"further ports", ports(consulimport.ImportPort{Name: "http"}, consulimport.ImportPort{Name: "m", Consul: "metrics"}),
			[]consulimport.Instance{inst(1, named("metrics", 9100)), inst(2)}, "10.0.0.1=http:8080,m:9100 10.0.0.2=http:8080", ""},
		{"tags", with(names("web"), func(in *consulimport.Import) { in.Tags = []string{"a", "b"} }),
			[]consulimport.Instance{inst(1, tags("b", "a")), inst(2, tags("a"))}, "10.0.0.1=8080", ""},
		{"what is left out may have no address", with(names("web"), func(in *consulimport.Import) { in.Tags = []string{"a"} }),
			[]consulimport.Instance{inst(1, tags("a")), inst(2, at("127.0.0.1"))}, "10.0.0.1=8080", ""},
		{"weights", names("web"), []consulimport.Instance{inst(1), inst(2, func(in *consulimport.Instance) { in.Weights.Passing = 9 })},
			"10.0.0.1=8080 10.0.0.2=8080", "the instances' weights differ; Kubernetes gives all the same share"},
		{"published from here", names("web"), []consulimport.Instance{inst(1), inst(2, from(cluster))}, "10.0.0.1=8080",
			"instances published from this cluster, and left out: 1"},
		{"published from here, and asked for", with(names("web"), func(in *consulimport.Import) { in.IncludeOwn = true }),
			[]consulimport.Instance{inst(2, from(cluster))}, "10.0.0.2=8080", ""},
		{"published from another cluster", names("web"), []consulimport.Instance{inst(2, from("there"))}, "10.0.0.2=8080", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.in)
			w.answer(consulimport.Origin{Where: tt.in.Where, Name: "web"}, 10, tt.instances...)
			plan := w.rest(t)
			w.expect(t, "web", tt.want)
			if got := plan.Statuses[0].Imported[0].Message; got != tt.note {
				t.Errorf("note %q, want %q", got, tt.note)
			}
		})
	}
}

func tags(tags ...string) func(*consulimport.Instance) {
	return func(in *consulimport.Instance) { in.Tags = tags }
}

func from(cluster string) func(*consulimport.Instance) {
	return func(in *consulimport.Instance) { in.Cluster = cluster }
}

// A Service and its slices carry all that is needed to know them again.
func TestWhatIsWritten(t *testing.T) {
	w := newWorld(with(names("web"), func(in *consulimport.Import) {
		in.Template, in.Type = "consul-{service}", consulimport.Headless
		in.Labels, in.Annotations = map[string]string{"team": "a"}, map[string]string{"b": "c"}
	}))
	w.says("web", 10, inst(1, func(in *consulimport.Instance) { in.Zone = "z1" }))
	plan := w.pass(t)
	object := func(name string) consulimport.Object {
		return consulimport.Object{Ref: ref(name), Import: "imp", Owner: "u1", Origin: consulimport.Origin{Name: "web"}, Mark: 10}
	}
	want := []consulimport.Op{
		{Verb: consulimport.Create, Reason: "new: 10.0.0.1", Slice: &consulimport.Slice{
			Object: object("consul-web-consul-1"), Service: "consul-web", Headless: true, Family: consulimport.IPv4,
			Ports:     []consulimport.Port{{Port: 8080, Protocol: "TCP"}},
			Endpoints: []consulimport.Endpoint{{Address: netip.MustParseAddr("10.0.0.1"), State: consulimport.Ready, Zone: "z1"}},
		}},
		{Verb: consulimport.Create, Reason: "Consul has the service", Service: &consulimport.Service{
			Object: object("consul-web"), Type: consulimport.Headless, Ports: []consulimport.Port{{Port: 8080, Protocol: "TCP"}},
			Labels: map[string]string{"team": "a"}, Annotations: map[string]string{"b": "c"},
		}},
	}
	if diff := cmp.Diff(want, plan.Ops, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("ops (-want +got):\n%s", diff)
	}
}

// Clients in the cluster use a number that stays, whatever ports the instances
// come to have.
func TestTheServicesPortStays(t *testing.T) {
	w := newWorld(names("web"))
	w.says("web", 10, inst(1, port(20001)), inst(2, port(20002)), inst(3, port(20002)))
	w.rest(t)
	for _, port := range []uint16{20003, 20004} {
		w.says("web", 11, inst(1, func(in *consulimport.Instance) { in.Port = port }))
		w.rest(t)
		if got := w.services[ref("web")].Ports[0].Port; got != 20002 {
			t.Fatalf("the Service's port is %d; it was 20002", got)
		}
		w.expect(t, "web", fmt.Sprintf("10.0.0.1=%d", port))
	}
	w.in.Imports[0].Ports = []consulimport.ImportPort{{Name: "web"}}
	w.rest(t)
	if got := w.services[ref("web")].Ports[0]; got.Port != 20002 || got.Name != "web" {
		t.Errorf("port %v after it was renamed", got)
	}
	w.in.Imports[0].Ports = []consulimport.ImportPort{{Port: 80, Name: "http"}}
	w.rest(t)
	if got := w.services[ref("web")].Ports; got[0] != (consulimport.Port{Name: "http", Port: 80, Protocol: "TCP"}) {
		t.Errorf("ports %v after a person has changed them", got)
	}
	w.expect(t, "web", "10.0.0.1=http:20004")
}

// The type of a Service cannot change, and the Service goes on as it is.
func TestTypeOfAServiceStays(t *testing.T) {
	w := newWorld(names("web"))
	w.says("web", 10, inst(1))
	w.rest(t)
	w.in.Imports[0].Type = consulimport.Headless
	plan := w.rest(t)
	w.expect(t, "web", "10.0.0.1=8080")
	if got := plan.Statuses[0].Imported[0].Message; got != "the Service is of type ClusterIP: delete it, and it is made anew as Headless" {
		t.Errorf("message %q", got)
	}
	delete(w.services, ref("web"))
	w.rest(t)
	if got := w.services[ref("web")].Type; got != consulimport.Headless {
		t.Errorf("made anew as %s", got)
	}
}

// A host name is no endpoint. It can be the one of an ExternalName, which stays
// for as long as its instance passes.
func TestHostNames(t *testing.T) {
	w := newWorld(with(names("db"), func(in *consulimport.Import) { in.Type = consulimport.ExternalName }))
	name := func() string { return w.services[ref("db")].ExternalName }
	w.says("db", 10, inst(1, host("B.example.com.")))
	w.rest(t)
	if name() != "b.example.com" {
		t.Fatalf("host name %q", name())
	}
	w.says("db", 11, inst(1, host("b.example.com")), inst(2, host("a.example.com")), inst(3))
	plan := w.rest(t)
	if name() != "b.example.com" {
		t.Errorf("host name %q although the other still passes", name())
	}
	if got, want := plan.Statuses[0].Imported[0].Message, "instances with an address, which target.type ExternalName cannot show: 1; only one host name of 2 can be shown"; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	w.says("db", 12, inst(1, host("b.example.com"), health(service.Critical)), inst(2, host("a.example.com")))
	if w.rest(t); name() != "a.example.com" {
		t.Errorf("host name %q although it is critical", name())
	}
	w.says("db", 13, inst(2, host("a.example.com"), health(service.Critical)))
	if w.rest(t); name() != "a.example.com" {
		t.Errorf("host name %q although there is none better", name())
	}
}

// After Consul was wiped the host name that is used stays until Consul says
// something of it.
func TestI1HostNamesAreHeld(t *testing.T) {
	w := newWorld(with(names("db"), func(in *consulimport.Import) { in.Type = consulimport.ExternalName }))
	w.says("db", 10, inst(1, host("b.example.com")), inst(2, host("c.example.com")))
	w.rest(t)
	for _, step := range []struct {
		index     uint64
		instances []consulimport.Instance
		want      string
	}{
		{3, []consulimport.Instance{inst(2, host("c.example.com"))}, "b.example.com"},
		{4, []consulimport.Instance{inst(2, host("c.example.com"))}, "b.example.com"},
		{5, []consulimport.Instance{inst(1, host("b.example.com"), health(service.Critical)), inst(2, host("c.example.com"))}, "c.example.com"},
		{6, []consulimport.Instance{inst(1, host("b.example.com"))}, "b.example.com"},
	} {
		w.says("db", step.index, step.instances...)
		w.rest(t)
		if got := w.services[ref("db")].ExternalName; got != step.want {
			t.Fatalf("at index %d: host name %q, want %q", step.index, got, step.want)
		}
	}
}

// What is new goes where something is written anyway.
func TestNewEndpointsCostFewWrites(t *testing.T) {
	var instances []consulimport.Instance
	for i := range 150 {
		instances = append(instances, inst(i+1))
	}
	w := newWorld(names("web"))
	w.says("web", 10, instances...)
	w.rest(t)
	w.says("web", 11, instances[1:]...)
	w.rest(t)
	// Both slices have room now, and one leaves the second.
	w.says("web", 12, append(slices.Clone(instances[1:149]), inst(500))...)
	if plan := w.pass(t); len(plan.Ops) != 1 || plan.Ops[0].Reason != "new: 10.0.1.244; gone: 10.0.0.150: Consul does not have it any more" {
		t.Errorf("ops %v", plan.Ops)
	}
}

// What is no Service says why.
func TestWhatIsNotImportedSaysWhy(t *testing.T) {
	tests := []struct {
		name   string
		in     consulimport.Import
		answer []consulimport.Instance
		want   string
	}{
		{"not in Consul", names("web"), nil, "NotInConsul"},
		{"no tag", with(names("web"), func(in *consulimport.Import) { in.Tags = []string{"x"} }), []consulimport.Instance{inst(1)}, "NothingSelected"},
		{"published from here", names("web"), []consulimport.Instance{inst(1, from(cluster))}, "PublishedFromHere"},
		{"no port", names("web"), []consulimport.Instance{inst(1, port(0))}, "NoPort"},
		{"no further port", with(names("web"), func(in *consulimport.Import) { in.Ports = []consulimport.ImportPort{{Consul: "grpc"}} }), []consulimport.Instance{inst(1)}, "NoPort"},
		{"host name", names("web"), []consulimport.Instance{inst(1, host("a"))}, "NoAddress"},
		{"no host name", with(names("web"), func(in *consulimport.Import) { in.Type = consulimport.ExternalName }), []consulimport.Instance{inst(1)}, "NoHostName"},
		{"no name", names("___"), nil, "NoName"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.in)
			w.says("web", 10, tt.answer...)
			plan := w.rest(t)
			status := plan.Statuses[0]
			if len(status.NotImported) != 1 || status.NotImported[0].Reason != tt.want || status.NotImported[0].Message == "" {
				t.Errorf("not imported: %+v, want %s", status.NotImported, tt.want)
			}
			if got := condition(plan, consulimport.ConditionReady); got != "False NotAllImported" {
				t.Errorf("Ready is %s", got)
			}
			if len(w.services) > 0 || len(plan.Again) > 0 {
				t.Errorf("Services %v, asks again %v", w.services, plan.Again)
			}
		})
	}
}

// A write that the API server refuses is said where the person looks.
func TestARefusedWriteIsSaid(t *testing.T) {
	w := newWorld(names("web"))
	w.says("web", 10, inst(1))
	w.in.Refused = map[consulimport.Ref]string{ref("web"): "quota exceeded"}
	plan, _ := consulimport.Decide(w.input(), w.memory)
	if got := plan.Statuses[0].NotImported; len(got) != 1 || got[0].Reason != consulimport.ReasonWriteRefused || got[0].Message != "quota exceeded" {
		t.Errorf("not imported: %+v", got)
	}
	w.pass(t)
	if got := w.rest(t).Statuses[0].Imported[0].Message; got != "the last write was refused: quota exceeded" {
		t.Errorf("message %q", got)
	}
}

// A status fits into an object, however much there is.
func TestStatusIsBounded(t *testing.T) {
	w := newWorld(pattern(".*"))
	var all []string
	for i := range 300 {
		name := fmt.Sprintf("s%03d", i)
		all = append(all, name)
		w.says(name, 10, inst(1, from(map[bool]string{true: cluster}[i%2 == 0])))
	}
	w.lists(all...)
	s := w.rest(t).Statuses[0]
	if len(s.Imported) != 100 || s.Services != 150 || s.Endpoints != 150 || len(s.NotImported) != 50 {
		t.Errorf("%d of %d imported, %d endpoints, %d not", len(s.Imported), s.Services, s.Endpoints, len(s.NotImported))
	}
	long := strings.Repeat("ä", 5000)
	w = newWorld(names("web"))
	w.in.Answers[consulimport.Origin{Name: "web"}] = consulimport.Answer{Read: consulimport.Read{Problem: long}}
	s = w.rest(t).Statuses[0]
	for _, message := range []string{s.NotImported[0].Message, s.Conditions[0].Message, s.Conditions[1].Message} {
		if n := len([]rune(message)); n != 1000 {
			t.Errorf("a message of %d characters", n)
		}
	}
}

// A write that fails is asked for until it is done, however often that is.
func TestAWriteIsAskedForUntilItIsDone(t *testing.T) {
	w := newWorld(names("web"))
	w.says("web", 10, inst(1))
	for range 20 {
		plan, next := consulimport.Decide(w.input(), w.memory)
		if len(plan.Ops) != 2 {
			t.Fatalf("ops %v", plan.Ops)
		}
		w.memory = next
		w.sleep(time.Minute)
	}
}

// The same service can be in many namespaces, and in each as it is asked for
// there.
func TestOneServiceInManyNamespaces(t *testing.T) {
	second := with(names("web"), func(in *consulimport.Import) {
		in.Ref.Namespace, in.Tags, in.Template = "bank", []string{"v2"}, "consul-{service}"
	})
	w := newWorld(names("web"), second)
	w.says("web", 10, inst(1), inst(2, tags("v2")))
	w.rest(t)
	w.expect(t, "web", "10.0.0.1=8080 10.0.0.2=8080")
	w.expect(t, "consul-web", "10.0.0.2=8080")
}

// Nothing is imported that nobody asked for: a pattern matches whole names, and
// never the servers' own service.
func TestOnlyWhatIsAskedForIsImported(t *testing.T) {
	w := newWorld(pattern("web|con.*"))
	w.lists("web", "web2", "myweb", "consul", "content")
	plan := w.rest(t)
	want := []consulimport.Origin{{Name: "content"}, {Name: "web"}}
	if diff := cmp.Diff(want, plan.Answers); diff != "" {
		t.Errorf("asks for (-want +got):\n%s", diff)
	}
	w = newWorld(names("consul"))
	w.says("consul", 10, inst(1))
	w.rest(t)
	w.expect(t, "consul", "10.0.0.1=8080")
}

// A pattern that matches nothing is no success.
func TestNothingFound(t *testing.T) {
	w := newWorld(pattern("x"))
	w.lists("web")
	if got := condition(w.rest(t), consulimport.ConditionReady); got != "False NothingFound" {
		t.Errorf("Ready is %s", got)
	}
	w.lists("x")
	w.says("x", 10, inst(1))
	if got := condition(w.rest(t), consulimport.ConditionReady); got != "True Imported" {
		t.Errorf("Ready is %s", got)
	}
}
