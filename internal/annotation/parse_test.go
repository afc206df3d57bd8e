package annotation_test

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

var ref = service.PodRef{Namespace: "shop", Name: "web-0", UID: "1b2c"}

// pod has an address of each family, two TCP ports after a UDP one, and three
// containers.
func pod(annotations map[string]string) service.Pod {
	return service.Pod{
		Ref:         ref,
		Annotations: annotations,
		Addresses:   []netip.Addr{netip.MustParseAddr("198.18.64.7"), netip.MustParseAddr("fd00::7")},
		Ports: []service.ContainerPort{
			{Name: "dns", Port: 53, Protocol: "UDP"},
			{Name: "http", Port: 8080, Protocol: "TCP"},
			{Name: "metrics", Port: 9090, Protocol: "TCP"},
		},
		Containers: []service.Container{{Name: "app"}, {Name: "logs"}, {Name: "gate"}},
	}
}

// native gives pairs of key and value Fairway's prefix.
func native(pairs ...string) map[string]string { return prefixed(annotation.Native, pairs) }

func katalog(pairs ...string) map[string]string { return prefixed(annotation.Katalog, pairs) }

func prefixed(prefix string, pairs []string) map[string]string {
	annotations := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		annotations[prefix+pairs[i]] = pairs[i+1]
	}
	return annotations
}

// instance is what pod declares if nothing else is said; change says it.
func instance(name string, port uint16, tags []string, meta map[string]string, change ...func(*service.Instance)) service.Instance {
	all := map[string]string{
		service.MetaSource: "kubernetes", service.MetaNamespace: "shop", service.MetaPod: "web-0", service.MetaPodUID: "1b2c",
	}
	maps.Copy(all, meta)
	v4, v6 := netip.MustParseAddr("198.18.64.7"), netip.MustParseAddr("fd00::7")
	in := service.Instance{
		ID: "fairway_" + name + "_shop_web-0_1b2c", Name: name, Pod: ref,
		Address: v4, Port: port, Tags: tags, Meta: all,
		Tagged:  map[string]netip.Addr{"lan_ipv4": v4, "wan_ipv4": v4, "lan_ipv6": v6, "wan_ipv6": v6},
		Weights: service.Weights{Passing: 1, Warning: 1},
	}
	for _, c := range change {
		c(&in)
	}
	return in
}

func weights(passing, warning int) func(*service.Instance) {
	return func(in *service.Instance) { in.Weights = service.Weights{Passing: passing, Warning: warning} }
}

func checkTTL(ttl time.Duration) func(*service.Instance) {
	return func(in *service.Instance) { in.CheckTTL = ttl }
}

func compareAddr(a, b netip.Addr) bool { return a == b }

func TestParse(t *testing.T) {
	type instances = []service.Instance
	tests := []struct {
		name        string
		annotations map[string]string
		want        annotation.Result
	}{
		{"nothing", nil, annotation.Result{}},
		{"other annotations", map[string]string{"example.com/service-names": "web", "fairway.dev/note": "x"}, annotation.Result{}},
		{"name only: the first TCP port", native("service-names", "web"), annotation.Result{
			Declared: true, Services: []string{"web"}, Instances: instances{instance("web", 8080, nil, nil)},
		}},
		{"all of it, trimmed", native(
			"service-names", " web , admin\n", "service-port", " 80 ", "service-tags", "b, a",
			"service-meta", "url: http://x:1/y , team:shop, empty:",
		), annotation.Result{
			Declared: true, Services: []string{"web", "admin"}, Instances: instances{
				instance("web", 80, []string{"b", "a"}, map[string]string{"url": "http://x:1/y", "team": "shop", "empty": ""}),
				instance("admin", 80, []string{"b", "a"}, map[string]string{"url": "http://x:1/y", "team": "shop", "empty": ""}),
			},
		}},
		{"an override replaces", native(
			"service-names", "web,admin", "service-port", "http", "service-tags", "a,b", "service-meta", "team:shop",
			"service-port-admin", "metrics", "service-tags-admin", "", "service-meta-admin", "level:2",
		), annotation.Result{
			Declared: true, Services: []string{"web", "admin"}, Instances: instances{
				instance("web", 8080, []string{"a", "b"}, map[string]string{"team": "shop"}),
				instance("admin", 9090, nil, map[string]string{"level": "2"}),
			},
		}},
		{"a named port may be UDP", native("service-names", "dns", "service-port", "dns"), annotation.Result{
			Declared: true, Services: []string{"dns"}, Instances: instances{instance("dns", 53, nil, nil)},
		}},
		{"several ports", native("service-names", "web,admin", "service-port", "http, metrics,dns", "service-port-admin", "81,http",
			"service-meta", "team:shop"), annotation.Result{
			Declared: true, Services: []string{"web", "admin"}, Instances: instances{
				instance("web", 8080, nil, map[string]string{"team": "shop", "port-metrics": "9090", "port-dns": "53"}),
				instance("admin", 81, nil, map[string]string{"team": "shop", "port-http": "8080"}),
			},
		}},
		{"weights", native("service-names", "a,b,c", "service-weights", "passing:10", "service-weights-b", "warning: 0 , passing:65535",
			"service-weights-c", "warning:5"), annotation.Result{
			Declared: true, Services: []string{"a", "b", "c"}, Instances: instances{
				instance("a", 8080, nil, nil, weights(10, 1)), instance("b", 8080, nil, nil, weights(65535, 0)),
				instance("c", 8080, nil, nil, weights(1, 5)),
			},
		}},
		{"health", native("service-names", "a,b,c", "service-health-a", "warning", "service-health-b", " critical "), annotation.Result{
			Declared: true, Services: []string{"a", "b", "c"}, Fixed: annotation.Fixed{"a": service.Warning, "b": service.Critical},
			Instances: instances{instance("a", 8080, nil, nil), instance("b", 8080, nil, nil), instance("c", 8080, nil, nil)},
		}},
		{"the pod's own", native("service-names", "web", "service-check-ttl", "1m30s", "container-exclude", "logs, app,logs", "sidecar", "gate"),
			annotation.Result{
				Declared: true, Services: []string{"web"}, Excluded: []string{"logs", "app", "gate"},
				Instances: instances{instance("web", 8080, nil, nil, checkTTL(90*time.Second))},
			}},
		{"katalog-sync", katalog(
			"service-names", "web", "service-port-web", "81", "service-tags", "v1", "service-meta", "a:b",
			"service-health", "passing", "serivce-health-web", "warning", "sidecar", "gate", "sync-interval", "1s",
			"service-check-ttl", "5s", "container-exclude", "logs", "service-other", "x",
		), annotation.Result{
			Declared: true, Services: []string{"web"}, Excluded: []string{"logs", "gate"},
			Fixed:     annotation.Fixed{"": service.Passing, "web": service.Warning},
			Instances: instances{instance("web", 81, []string{"v1"}, map[string]string{"a": "b"}, checkTTL(10*time.Second))},
		}},
		{"katalog-sync, the right spelling counts", katalog(
			"service-names", "web", "serivce-health-web", "warning", "service-health-web", "critical",
		), annotation.Result{
			Declared: true, Services: []string{"web"}, Fixed: annotation.Fixed{"web": service.Critical},
			Instances: instances{instance("web", 8080, nil, nil)},
		}},
		{"native wins as a whole", merge(
			native("service-names", "web"), katalog("service-names", ",", "service-port", "x", "service-tags", "old"),
		), annotation.Result{
			Declared: true, Services: []string{"web"}, Instances: instances{instance("web", 8080, nil, nil)},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := annotation.Parse(pod(tt.annotations))
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(compareAddr), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func merge(ms ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range ms {
		maps.Copy(all, m)
	}
	return all
}

// Each mistake is reported once, in words that say what would be right, and
// services that do not depend on it stay usable.
func TestParseErrors(t *testing.T) {
	tests := []struct {
		name        string
		annotations map[string]string
		usable      string   // names of the instances left
		errors      []string // service | text
	}{
		{"no name", native("service-names", " "), "",
			[]string{`| fairway.dev/service-names: empty: name at least one service, or remove the annotation`}},
		{"an empty name", native("service-names", "web,,admin"), "web admin",
			[]string{`| fairway.dev/service-names: item 2 of the list is empty: remove the extra comma`}},
		{"a trailing comma", native("service-names", "web,"), "web",
			[]string{`| fairway.dev/service-names: item 2 of the list is empty: remove the extra comma`}},
		{"bad names", native("service-names", "a_b,-a,a-,ok,a/b"), "ok", []string{
			`a_b| fairway.dev/service-names: "a_b" is not a service name: only letters, digits and '-' can be looked up by DNS`,
			`-a| fairway.dev/service-names: "-a" is not a service name: it must begin and end with a letter or digit`,
			`a-| fairway.dev/service-names: "a-" is not a service name: it must begin and end with a letter or digit`,
			`a/b| fairway.dev/service-names: "a/b" is not a service name: only letters, digits and '-' can be looked up by DNS`,
		}},
		{"a bad name with an override", native("service-names", "a_b", "service-port-a_b", "80"), "",
			[]string{`a_b| fairway.dev/service-names: "a_b" is not a service name: only letters, digits and '-' can be looked up by DNS`}},
		{"a long name", native("service-names", strings.Repeat("a", 64)), "", []string{strings.Repeat("a", 64) +
			`| fairway.dev/service-names: "` + strings.Repeat("a", 64) + `" is 64 characters long: a name in DNS has at most 63`}},
		{"a name twice", native("service-names", "web,web,Web"), "web", []string{
			`web| fairway.dev/service-names: "web" is listed twice: remove one`,
			`Web| fairway.dev/service-names: "web" and "Web" are the same name to Consul, which ignores case: remove one`,
		}},
		{"too many names", native("service-names", "a0"+manyItems(64)), "",
			[]string{`| fairway.dev/service-names: 65 services: a pod may declare at most 64`}},

		{"ports", native("service-names", "a,b,c,d,e,f,g,ok", "service-port-a", "0", "service-port-b", "65536",
			"service-port-c", "-1", "service-port-d", "htp", "service-port-e", "", "service-port-f", "+80", "service-port-g", "8 0"), "ok",
			[]string{
				`a| fairway.dev/service-port-a: "0" is out of range: give a number from 1 to 65535`,
				`b| fairway.dev/service-port-b: "65536" is out of range: give a number from 1 to 65535`,
				`c| fairway.dev/service-port-c: "-1" is neither a number from 1 to 65535 nor the name of a container port (the pod has dns, http, metrics)`,
				`d| fairway.dev/service-port-d: "htp" is neither a number from 1 to 65535 nor the name of a container port (the pod has dns, http, metrics)`,
				`e| fairway.dev/service-port-e: empty: give a number from 1 to 65535, or the name of a container port`,
				`f| fairway.dev/service-port-f: "+80" is neither a number from 1 to 65535 nor the name of a container port (the pod has dns, http, metrics)`,
				`g| fairway.dev/service-port-g: "8 0" is neither a number from 1 to 65535 nor the name of a container port (the pod has dns, http, metrics)`,
			}},
		{"a shared mistake hurts those without an override", native("service-names", "a,b", "service-port", "x", "service-port-b", "80"), "b",
			[]string{`| fairway.dev/service-port: "x" is neither a number from 1 to 65535 nor the name of a container port (the pod has dns, http, metrics)`}},
		{"tags", native("service-names", "a,b,c", "service-tags", "x,,y", "service-tags-a", "x,y,x", "service-tags-b", "x\ty"), "",
			[]string{
				`| fairway.dev/service-tags: item 2 of the list is empty: remove the extra comma`,
				`a| fairway.dev/service-tags-a: tag "x" is listed twice: remove one`,
				`b| fairway.dev/service-tags-b: "x\ty" is not a tag: it must be one line of printable text`,
			}},
		{"meta", native("service-names", "ok,m", "service-meta-m",
			"flag, :v, a.b:1, k:1, k:2, fairway-node:x, external-source:x, consul-x:y,,"+strings.Repeat("k", 129)+":v,big:"+strings.Repeat("v", 513)+",t:\xff"), "ok",
			[]string{
				`m| fairway.dev/service-meta-m: "flag" has no colon: write key:value`,
				`m| fairway.dev/service-meta-m: the key before ":v" is empty: write key:value`,
				`m| fairway.dev/service-meta-m: key "a.b" is refused by Consul: only letters, digits, '-' and '_' are allowed`,
				`m| fairway.dev/service-meta-m: key "k" is given twice: remove one`,
				`m| fairway.dev/service-meta-m: key "fairway-node" is reserved: keys that begin with fairway-, external- or consul- cannot be set`,
				`m| fairway.dev/service-meta-m: key "external-source" is reserved: keys that begin with fairway-, external- or consul- cannot be set`,
				`m| fairway.dev/service-meta-m: key "consul-x" is reserved: keys that begin with fairway-, external- or consul- cannot be set`,
				`m| fairway.dev/service-meta-m: item 9 of the list is empty: remove the extra comma`,
				`m| fairway.dev/service-meta-m: key "` + strings.Repeat("k", 64) + `"... is 129 characters long: Consul takes at most 128`,
				`m| fairway.dev/service-meta-m: the value of "big" is 513 bytes long: Consul takes at most 512`,
				`m| fairway.dev/service-meta-m: the value of "t" must be one line of printable text`,
			}},
		{"too many pairs", native("service-names", "m", "service-meta", "k0:v"+strings.ReplaceAll(manyItems(58), ",", ":v,")), "",
			[]string{`| fairway.dev/service-meta: 59 pairs: Consul holds 64 per service, and Fairway needs 6 of them`}},

		{"more ports", native("service-names", "a,b,c,d,e,ok", "service-port-a", "http,9090", "service-port-b", "http,,metrics", "service-port-c", "http,http",
			"service-port-d", "80,htp", "service-port-e", "http,metrics", "service-meta-e", "port-metrics:1"), "ok", []string{
			`a| fairway.dev/service-port-a: "9090" has no name: ports after the first must be names of container ports`,
			`b| fairway.dev/service-port-b: item 2 of the list is empty: remove the extra comma`,
			`c| fairway.dev/service-port-c: port "http" is listed twice: remove one`,
			`d| fairway.dev/service-port-d: "htp" is neither a number from 1 to 65535 nor the name of a container port (the pod has dns, http, metrics)`,
			`e| fairway.dev/service-port-e: port "metrics" is to stand in the meta as "port-metrics", which service-meta sets too: remove one`,
		}},
		{"too many pairs with the ports", native("service-names", "m", "service-port", "http,metrics", "service-meta", "k0:v"+strings.ReplaceAll(manyItems(57), ",", ":v,")+":v"), "",
			[]string{`m| fairway.dev/service-port: 59 pairs: Consul holds 64 per service, and Fairway needs 6 of them`}},
		{"health", native("service-names", "a,b", "service-health", "ok", "service-health-b", "passing"), "b",
			[]string{`| fairway.dev/service-health: "ok" is no health: give passing, warning or critical`}},
		{"weights", native("service-names", "a,b,c,d,ok", "service-weights-a", "", "service-weights-b", "10,passing,warn:1",
			"service-weights-c", "passing:0,warning:65536,,", "service-weights-d", "passing:1,passing:2"), "ok", []string{
			`a| fairway.dev/service-weights-a: empty: write passing:N, warning:N or both, or remove the annotation`,
			`b| fairway.dev/service-weights-b: "10" is not a weight: write passing:N or warning:N`,
			`b| fairway.dev/service-weights-b: "" is no weight for passing: give a number from 1 to 65535`,
			`b| fairway.dev/service-weights-b: "warn:1" is not a weight: write passing:N or warning:N`,
			`c| fairway.dev/service-weights-c: "0" is no weight for passing: give a number from 1 to 65535`,
			`c| fairway.dev/service-weights-c: "65536" is no weight for warning: give a number from 0 to 65535`,
			`c| fairway.dev/service-weights-c: item 3 of the list is empty: remove the extra comma`,
			`c| fairway.dev/service-weights-c: item 4 of the list is empty: remove the extra comma`,
			`d| fairway.dev/service-weights-d: the weight for passing is given twice: remove one`,
		}},
		{"a TTL that is too short", native("service-names", "web", "service-check-ttl", " 9s "), "",
			[]string{`| fairway.dev/service-check-ttl: "9s" is too short: give 10s or more`}},
		{"a TTL that is none", native("service-names", "web", "service-check-ttl", "60"), "",
			[]string{`| fairway.dev/service-check-ttl: "60" is not a duration: write one such as 30s or 5m`}},
		{"katalog's durations", katalog("service-names", "web", "service-check-ttl", "-1m", "sync-interval", "fast "), "", []string{
			`| katalog-sync.wish.com/service-check-ttl: "-1m" is not a duration: write one such as 30s or 5m`,
			`| katalog-sync.wish.com/sync-interval: "fast" is not a duration: write one such as 30s or 5m`,
		}},
		{"containers", native("service-names", "web", "container-exclude", "log,,other", "sidecar", "app,logs"), "web", []string{
			`| fairway.dev/container-exclude: "log" is not a container of the pod; did you mean logs?`,
			`| fairway.dev/container-exclude: item 2 of the list is empty: remove the extra comma`,
			`| fairway.dev/container-exclude: "other" is not a container of the pod, which has app, logs, gate`,
			`| fairway.dev/sidecar: "app,logs" is not a container of the pod, which has app, logs, gate`,
		}},
		{"no container named", native("service-names", "web", "container-exclude", " ", "sidecar", ""), "web", []string{
			`| fairway.dev/container-exclude: empty: name a container of the pod, or remove the annotation`,
			`| fairway.dev/sidecar: empty: name a container of the pod, or remove the annotation`,
		}},

		{"overrides of nothing", native("service-names", "web", "service-port-wbe", "80", "service-tags-other", "x"), "web", []string{
			`wbe| fairway.dev/service-port-wbe: "wbe" is not in fairway.dev/service-names; did you mean fairway.dev/service-port-web?`,
			`other| fairway.dev/service-tags-other: "other" is not in fairway.dev/service-names: add it there, or remove this annotation`,
		}},
		{"typos", native("service-names", "web", "service-tag", "x", "service-tag-web", "x", "servce-port", "80", "service-labels", "x",
			"serivce-health-web", "passing", "side-car", "gate"), "web", []string{
			`| fairway.dev/serivce-health-web: no such annotation; did you mean fairway.dev/service-health-web?`,
			`| fairway.dev/servce-port: no such annotation; did you mean fairway.dev/service-port?`,
			`| fairway.dev/service-labels: no such annotation; there are service-port, service-tags, service-meta, service-health, service-weights, each also with -NAME appended for one service, and service-names, service-check-ttl, container-exclude, sidecar`,
			`| fairway.dev/service-tag: no such annotation; did you mean fairway.dev/service-tags?`,
			`| fairway.dev/service-tag-web: no such annotation; did you mean fairway.dev/service-tags-web?`,
			`| fairway.dev/side-car: no such annotation; did you mean fairway.dev/sidecar?`,
		}},
		{"a typo in the opt-in", native("service-name", "web", "service-port", "80"), "", []string{
			`| fairway.dev/service-name: no such annotation; did you mean fairway.dev/service-names?`,
			`| fairway.dev/service-port: has no effect: fairway.dev/service-names is missing, which lists the services to publish`,
		}},
		{"native keys beside katalog's", merge(katalog("service-names", "web"), native("service-tags", "v2")), "web", []string{
			`| fairway.dev/service-tags: has no effect: fairway.dev/service-names is missing, which lists the services to publish`,
		}},
		{"katalog's are read as strictly", katalog("service-names", "web,", "service-port-wbe", "80"), "web", []string{
			`| katalog-sync.wish.com/service-names: item 2 of the list is empty: remove the extra comma`,
			`wbe| katalog-sync.wish.com/service-port-wbe: "wbe" is not in katalog-sync.wish.com/service-names; did you mean katalog-sync.wish.com/service-port-web?`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			result := annotation.Parse(pod(tt.annotations))
			var errs, usable []string
			for _, e := range result.Errors {
				errs = append(errs, e.Service+"| "+e.String())
				if e.Value != tt.annotations[e.Key] {
					t.Errorf("%s: value %q, want the annotation's", e.Key, e.Value)
				}
			}
			for _, i := range result.Instances {
				usable = append(usable, i.Name)
			}
			if diff := cmp.Diff(tt.errors, errs); diff != "" {
				t.Errorf("errors: -want +got:\n%s", diff)
			}
			if got := strings.Join(usable, " "); got != tt.usable {
				t.Errorf("usable: %q, want %q", got, tt.usable)
			}
		})
	}
}

// manyItems is n more items for a list: ",a1,a2...".
func manyItems(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ",a%d", i+1)
	}
	return b.String()
}

// A service must never get port 0 or -1 because nothing said which.
func TestNoPort(t *testing.T) {
	p := pod(native("service-names", "web,admin", "service-port-admin", "81"))
	p.Ports = p.Ports[:1] // UDP only
	got := annotation.Parse(p)
	want := []annotation.Error{{
		Key:     "fairway.dev/service-port",
		Problem: "missing, and the pod declares no TCP container port to take instead: set it to a port number",
	}}
	if diff := cmp.Diff(want, got.Errors); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(got.Instances) != 1 || got.Instances[0].Name != "admin" {
		t.Errorf("instances %v, want admin alone", got.Instances)
	}

	p.Annotations = native("service-names", "web", "service-port", "http")
	p.Ports = nil
	if errs := annotation.Parse(p).Errors; len(errs) != 1 || !strings.HasSuffix(errs[0].Problem, "(the pod names none)") {
		t.Errorf("errors %v, want one that says the pod names no ports", errs)
	}
}

func TestNoAddress(t *testing.T) {
	p := pod(native("service-names", "web", "service-port", "x"))
	p.Addresses = nil
	got := annotation.Parse(p)
	if !got.Declared || len(got.Services) != 1 || len(got.Instances) != 0 {
		t.Errorf("got %+v, want web declared and no instance", got)
	}
	if len(got.Errors) != 1 {
		t.Errorf("errors %v: a mistake must be reported before the pod has an address", got.Errors)
	}
}

// The instances of a pod must not share memory: what one adapter changes in
// its copy would change another service.
func TestInstancesShareNothing(t *testing.T) {
	got := annotation.Parse(pod(native("service-names", "a,b", "service-tags", "x", "service-meta", "k:v"))).Instances
	got[0].Tags[0] = "changed"
	got[0].Meta["k"] = "changed"
	if got[1].Tags[0] != "x" || got[1].Meta["k"] != "v" {
		t.Errorf("a change of the first instance reached the second: %+v", got[1])
	}
}
