package annotation_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// servicePorts are those of a Service: UDP comes first, and one has no TCP sibling.
func servicePorts() []service.Port {
	return []service.Port{dnsPort, httpPort, metricsPort}
}

var (
	dnsPort     = service.Port{Name: "dns", Port: 53, Protocol: "UDP"}
	httpPort    = service.Port{Name: "http", Port: 80, NodePort: 30080, Protocol: "TCP"}
	metricsPort = service.Port{Name: "metrics", Port: 9090, Protocol: "TCP"}
)

func consul(pairs ...string) map[string]string { return prefixed(annotation.Consul, pairs) }

// declared is what a Service asks for that says nothing, but for what change says.
func declared(change ...func(*annotation.Declaration)) annotation.Declaration {
	d := annotation.Declaration{
		Usable: true, Port: httpPort, Further: []service.Port{dnsPort, metricsPort},
		Weights: service.Weights{Passing: 1, Warning: 1}, Draining: service.Critical,
	}
	for _, c := range change {
		c(&d)
	}
	return d
}

func TestParseService(t *testing.T) {
	yes, no := true, false
	type declaration = annotation.Declaration
	tests := []struct {
		name        string
		annotations map[string]string
		want        declaration
	}{
		{"nothing", map[string]string{"fairway.dev/note": "x", "consul.hashicorp.com/connect-inject": "true"}, declared()},
		{"all of ours, trimmed", native(
			"service-sync", " true ", "service-name", " shop-web ", "service-port", " metrics , dns ", "service-tags", "b, a",
			"service-meta", "team:shop", "service-weights", "warning:0", "service-health", "warning",
			"service-draining", "warning", "service-address", "vip",
		), declared(func(d *declaration) {
			d.Sync, d.Name, d.Port, d.Further = &yes, "shop-web", metricsPort, []service.Port{dnsPort}
			d.Tags, d.Meta, d.Weights.Warning = []string{"b", "a"}, map[string]string{"team": "shop"}, 0
			d.Fixed, d.Draining, d.Address = annotation.Fixed{"": service.Warning}, service.Warning, annotation.VIP
		})},
		{"a name is an opt-in", native("service-name", "web"), declared(func(d *declaration) { d.Sync, d.Name = &yes, "web" })},
		{"but not against what is said", native("service-name", "web", "service-sync", "false"),
			declared(func(d *declaration) { d.Sync, d.Name = &no, "web" })},
		{"a port by number is a port of the Service", native("service-port", "80"),
			declared(func(d *declaration) { d.Further = nil })},
		{"ours go before Consul's, as a whole", merge(native("service-sync", "true"), consul("service-name", "other", "service-tags", "x")),
			declared(func(d *declaration) { d.Sync = &yes })},
		{"all six of Consul's", consul(
			"service-sync", "T", "service-name", "shop_web.v1", "service-port", "metrics", "service-tags", `a\,b, c,d\e`,
			"service-weight", "10", "service-meta-team", "shop", "service-meta-url", "http://x:1/y,z",
		), declared(func(d *declaration) {
			d.Sync, d.Name, d.Port, d.Further = &yes, "shop_web.v1", metricsPort, []service.Port{dnsPort, httpPort}
			d.Tags, d.Weights.Passing = []string{"a,b", "c", `d\e`}, 10
			d.Meta = map[string]string{"team": "shop", "url": "http://x:1/y,z"}
		})},
		{"Consul's name alone is no opt-in", consul("service-name", "web"), declared(func(d *declaration) { d.Name = "web" })},
		{"Consul's port is any number", consul("service-port", "8443"), declared(func(d *declaration) {
			d.Port, d.Literal = service.Port{Port: 8443}, true
			d.Further = []service.Port{dnsPort, metricsPort}
		})},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, annotation.ParseService(tt.annotations, servicePorts()), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseServicePorts(t *testing.T) {
	udp := []service.Port{dnsPort}
	unnamed := []service.Port{{Port: 8000, Protocol: "TCP"}}
	tests := []struct {
		name  string
		value string // of the annotation, if there is one
		ports []service.Port
		want  service.Port
	}{
		{"no ports", "", nil, service.Port{}},
		{"no ports, and a number", "7000", nil, service.Port{Port: 7000}},
		{"UDP alone", "", udp, dnsPort},
		{"one without a name", "", unnamed, unnamed[0]},
		{"one without a name, by number", "8000", unnamed, unnamed[0]},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			annotations := map[string]string{}
			if tt.value != "" {
				annotations = native("service-port", tt.value)
			}
			got := annotation.ParseService(annotations, tt.ports)
			if !got.Usable || got.Port != tt.want || len(got.Further) > 0 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// Each error names the annotation, the value and what would be right.
func TestServiceErrors(t *testing.T) {
	const has = "; the Service has dns (53), http (80), metrics (9090)"
	tests := []struct {
		annotations map[string]string
		want        []string
		usable      bool
	}{
		{native("service-sync", "yes"), []string{`fairway.dev/service-sync: "yes" is neither true nor false`}, false},
		{native("service-sync", "1"), []string{`fairway.dev/service-sync: "1" is neither true nor false`}, false},
		{native("service-name", ""), []string{"fairway.dev/service-name: empty: give a service name, or remove the annotation"}, false},
		{native("service-name", "shop_web"), []string{
			`fairway.dev/service-name: "shop_web" is not a service name: only letters, digits and '-' can be looked up by DNS`}, false},
		{native("service-port", ""), []string{"fairway.dev/service-port: empty: name a port" + has}, false},
		{native("service-port", "htp"), []string{`fairway.dev/service-port: "htp" is not a port of the Service, by name or number` + has}, false},
		{native("service-port", "8443"), []string{`fairway.dev/service-port: "8443" is not a port of the Service, by name or number` + has}, false},
		{native("service-port", "http,,http,53"), []string{
			"fairway.dev/service-port: item 2 of the list is empty: remove the extra comma",
			`fairway.dev/service-port: port "http" is listed twice: remove one`,
			`fairway.dev/service-port: "53" is no name: ports after the first must be names of ports of the Service`}, false},
		{native("service-health", "ok"), []string{`fairway.dev/service-health: "ok" is no health: give passing, warning or critical`}, false},
		{native("service-draining", "passing"), []string{
			`fairway.dev/service-draining: "passing" is not for endpoints that are about to end: give critical or warning`}, false},
		{native("service-address", "nodes"), []string{`fairway.dev/service-address: "nodes" is no kind of address; did you mean node?`}, false},
		{native("service-address", "ingress"), []string{
			`fairway.dev/service-address: "ingress" is no kind of address: there are endpoints, vip, node, load-balancer, hostname`}, false},
		{native("service-meta", "port-dns:1"), []string{
			`fairway.dev/service-meta: port "dns" stands in the meta as "port-dns" by itself: remove one`}, false},
		{consul("service-meta-port-dns", "1"), []string{
			`consul.hashicorp.com/service-meta-port-dns: port "dns" stands in the meta as "port-dns" by itself: remove one`}, false},
		{native("service-names", "web"), []string{"fairway.dev/service-names: no such annotation on a Service; did you mean fairway.dev/service-name?"}, true},
		{native("service-port-web", "80"), []string{"fairway.dev/service-port-web: no such annotation on a Service; there are service-sync, " +
			"service-name, service-port, service-tags, service-meta, service-weights, service-health, service-draining, service-address"}, true},
		{consul("service-sync", "yes"), []string{`consul.hashicorp.com/service-sync: "yes" is neither true nor false`}, false},
		{consul("service-name", "shop/web"), []string{
			`consul.hashicorp.com/service-name: "shop/web" is not a service name: only letters, digits, '-', '_' and '.' are allowed`}, false},
		{consul("service-port", "htp"), []string{`consul.hashicorp.com/service-port: "htp" is not a port of the Service, by name or number` + has}, false},
		{consul("service-weight", "0"), []string{`consul.hashicorp.com/service-weight: "0" is no weight: give a number from 1 to 65535`}, false},
		{consul("service-meta-a.b", "x"), []string{
			`consul.hashicorp.com/service-meta-a.b: key "a.b" is refused by Consul: only letters, digits, '-' and '_' are allowed`}, false},
		{consul("service-meta-", "x"), []string{`consul.hashicorp.com/service-meta-: the key before ":x" is empty: write key:value`}, false},
		{consul("service-tags", `a\,b,`), []string{"consul.hashicorp.com/service-tags: item 2 of the list is empty: remove the extra comma"}, false},
		{consul("service-sync", "true", "service-weights", "10"), []string{
			"consul.hashicorp.com/service-weights: no such annotation; did you mean consul.hashicorp.com/service-weight?"}, true},
		{consul("service-sync", "true", "service-meta", "a:b"), []string{
			"consul.hashicorp.com/service-meta: no such annotation; did you mean consul.hashicorp.com/service-meta-KEY?"}, true},
		{merge(consul("service-sync", "true"), native("service-tags", "a")), []string{
			"fairway.dev/service-tags: has no effect: the Service is described under consul.hashicorp.com/, and one dialect counts; " +
				"move all of it to fairway.dev/, beginning with service-sync"}, true},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.annotations), func(t *testing.T) {
			got := annotation.ParseService(tt.annotations, servicePorts())
			var texts []string
			for _, e := range got.Errors {
				texts = append(texts, e.String())
				if e.Value != tt.annotations[e.Key] {
					t.Errorf("%s: value %q, want %q", e.Key, e.Value, tt.annotations[e.Key])
				}
			}
			if diff := cmp.Diff(tt.want, texts); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got.Usable != tt.usable {
				t.Errorf("usable: %v", got.Usable)
			}
		})
	}
}

// The ports of a Service alone can be too many for Consul. Then those count that
// are listed.
func TestAServiceOfManyPorts(t *testing.T) {
	var ports []service.Port
	for i := range 60 {
		ports = append(ports, service.Port{Name: fmt.Sprintf("p%d", i), Port: uint16(i + 1), Protocol: "TCP"})
	}
	got := annotation.ParseService(nil, ports)
	if got.Usable || len(got.Errors) != 1 || !strings.Contains(got.Errors[0].Problem, "list those that are to be there") {
		t.Errorf("got %+v", got.Errors)
	}
	if got := annotation.ParseService(native("service-port", "p3,p59"), ports); !got.Usable || got.Port != ports[3] || len(got.Further) != 1 {
		t.Errorf("listed: got %+v", got)
	}
}

// checkDeclaration is what must hold for any Service.
func checkDeclaration(annotations map[string]string, ports []service.Port, d annotation.Declaration) error {
	for _, e := range d.Errors {
		if _, given := annotations[e.Key]; e.Problem == "" || !given {
			return fmt.Errorf("error %+v", e)
		}
	}
	if !d.Usable {
		if len(d.Errors) == 0 {
			return fmt.Errorf("not usable, and no error says why")
		}
		return nil
	}
	if d.Name != "" && (len(d.Name) > 255 || strings.ContainsAny(d.Name, " /\t\n")) {
		return fmt.Errorf("name %q", d.Name)
	}
	if d.Port.Port == 0 && len(ports) > 0 {
		return fmt.Errorf("no port")
	}
	if d.Weights.Passing < 1 || d.Weights.Passing > 65535 || d.Weights.Warning < 0 || d.Weights.Warning > 65535 {
		return fmt.Errorf("weights %+v", d.Weights)
	}
	if n := len(d.Meta) + len(d.Further); n > 64-service.MetaOwnedByServices {
		return fmt.Errorf("%d pairs of meta", n)
	}
	for key, value := range d.Meta {
		if key == "" || len(key) > 128 || len(value) > 512 || !utf8.ValidString(value) || strings.HasPrefix(key, "fairway-") || strings.HasPrefix(key, "external-") {
			return fmt.Errorf("meta %q=%q", key, value)
		}
	}
	for _, tag := range d.Tags {
		if tag == "" || tag != strings.TrimSpace(tag) || !utf8.ValidString(tag) {
			return fmt.Errorf("tag %q", tag)
		}
	}
	for _, port := range d.Further {
		if _, twice := d.Meta["port-"+port.Name]; port.Name == "" || twice {
			return fmt.Errorf("further port %+v", port)
		}
	}
	return nil
}

// The same annotations give the same answer, which is good for Consul.
func TestParseServiceIsSoundAndStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		annotations := map[string]string{}
		for range rapid.IntRange(0, 6).Draw(t, "annotations") {
			prefix := rapid.SampledFrom([]string{annotation.Native, annotation.Consul}).Draw(t, "prefix")
			key := rapid.SampledFrom([]string{"service-sync", "service-name", "service-port", "service-tags", "service-meta", "service-meta-k",
				"service-weight", "service-weights", "service-health", "service-draining", "service-address", "service-nam"}).Draw(t, "key")
			annotations[prefix+key] = rapid.OneOf(text(), rapid.SampledFrom([]string{"true", "false", "vip", "warning", "metrics,dns"})).Draw(t, "value")
		}
		ports := servicePorts()[:rapid.IntRange(0, 3).Draw(t, "ports")]
		got := annotation.ParseService(annotations, ports)
		if err := checkDeclaration(annotations, ports, got); err != nil {
			t.Fatal(err)
		}
		again := map[string]string{}
		maps.Copy(again, annotations)
		if diff := cmp.Diff(got, annotation.ParseService(again, ports)); diff != "" {
			t.Fatalf("two answers for one Service:\n%s", diff)
		}
	})
}

func FuzzParseService(f *testing.F) {
	f.Add("true", "web", "http,dns", `a\,b,c`, "k:v,url:http://x:1", "passing:10", "passing", "warning", "vip", "service-meta-k", "v")
	f.Add("T", "a_b.c", "65536", `\`, ":", "1", "", "", "", "service-meta-", "\xff")
	f.Fuzz(func(t *testing.T, sync, name, port, tags, meta, weights, health, draining, address, key, value string) {
		for _, prefix := range []string{annotation.Native, annotation.Consul} {
			annotations := prefixed(prefix, []string{
				"service-sync", sync, "service-name", name, "service-port", port, "service-tags", tags, "service-meta", meta,
				"service-weights", weights, "service-weight", weights, "service-health", health,
				"service-draining", draining, "service-address", address, key, value,
			})
			if err := checkDeclaration(annotations, servicePorts(), annotation.ParseService(annotations, servicePorts())); err != nil {
				t.Error(err)
			}
		}
	})
}
