package export_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
)

func TestPolicyValidate(t *testing.T) {
	if err := policy().Validate(); err != nil {
		t.Errorf("the default policy: %v", err)
	}
	tests := []struct {
		change func(*export.Policy)
		want   string
	}{
		{func(p *export.Policy) { p.Cluster = "" }, "the cluster id is empty: nobody would own the entries"},
		{func(p *export.Policy) { p.Allow = nil }, "no namespace is allowed: name some, or give * for all"},
		{func(p *export.Policy) { p.Deny = []string{"*"} }, "all namespaces are denied: nothing would ever be published"},
		{func(p *export.Policy) { p.ClusterIP = annotation.Node }, `services of type ClusterIP: "node" is not one of [endpoints vip off]`},
		{func(p *export.Policy) { p.LoadBalancer = "address" },
			`services of type LoadBalancer: "address" is not one of [load-balancer endpoints vip node off]`},
		{func(p *export.Policy) { p.Headless = annotation.VIP }, `services of type headless: "vip" is not one of [endpoints off]`},
		{func(p *export.Policy) { p.NodeAddress = "" }, `address of nodes: "" is not one of [external internal external-first]`},
		{func(p *export.Policy) { p.Name = "k8s-{namespace}" }, `name template "k8s-{namespace}": without {name} all Services would have one name`},
		{func(p *export.Policy) { p.Name, p.Cluster = "{nam}", "" }, "the cluster id is empty: nobody would own the entries\n" +
			`name template "{nam}": {nam} stands for nothing; there are {name}, {namespace} and {cluster}`},
	}
	for _, tt := range tests {
		err := policy(tt.change).Validate()
		if err == nil || err.Error() != tt.want {
			t.Errorf("got  %v\nwant %s", err, tt.want)
		}
	}
}

func TestName(t *testing.T) {
	good := map[export.Name]string{
		"": "web", "{name}": "web", "k8s-{name}-{namespace}": "k8s-web-shop", "{cluster}-{name}{name}": "c1-webweb",
	}
	for template, want := range good {
		p := policy(func(p *export.Policy) { p.Name = template })
		if got := export.Instances(web(), cluster(web()), p).Name; template.Validate() != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", template, got, template.Validate(), want)
		}
	}
	for _, template := range []export.Name{"web", "{name", "name}", "{name}-{}", "{name}}", "{{name}}"} {
		if template.Validate() == nil {
			t.Errorf("%q is taken", template)
		}
	}
}

func FuzzName(f *testing.F) {
	f.Add("k8s-{name}-{namespace}")
	f.Add("{{name}}}{")
	f.Fuzz(func(t *testing.T, text string) {
		template := export.Name(text)
		if template.Validate() != nil {
			return
		}
		name := export.Instances(web(), cluster(web()), policy(func(p *export.Policy) { p.Name = template })).Name
		if strings.ContainsAny(name, "{}") || !strings.Contains(name, "web") {
			t.Errorf("%q makes %q", text, name)
		}
	})
}

func TestSelector(t *testing.T) {
	labels := map[string]string{"app": "web", "example.com/tier": "front", "empty": ""}
	tests := []struct {
		text string
		want bool
	}{
		{"", true}, {" ", true}, {"app", true}, {"!app", false}, {"other", false}, {"!other", true},
		{"app=web", true}, {"app==web", true}, {"app = web", true}, {"app=api", false}, {"other=web", false},
		{"app!=api", true}, {"app!=web", false}, {"other!=web", true}, {"empty=", true}, {"app=", false},
		{"app in (api, web)", true}, {"app in (api)", false}, {"other in (web)", false}, {"empty in ()", true},
		{"app notin (api)", true}, {"app notin (web,api)", false}, {"other notin (web)", true},
		{"app in (web,api),example.com/tier=front", true}, {"app=web,!empty", false},
	}
	for _, tt := range tests {
		selector, err := export.ParseSelector(tt.text)
		if err != nil || selector.Matches(labels) != tt.want {
			t.Errorf("%q: %v, %v; want %v", tt.text, selector.Matches(labels), err, tt.want)
		}
	}
}

func TestSelectorErrors(t *testing.T) {
	tests := map[string]string{
		"app=web,":       `label selector "app=web,": "": "" is no label key`,
		"app in web":     `label selector "app in web": "app in web": "app in web" is no label key`,
		"app of (web)":   `label selector "app of (web)": "app of (web)": write key in (a,b) or key notin (a,b)`,
		"app in (web":    `label selector "app in (web": "app in (web": "app in (web" is no label key`,
		"app!==web":      `label selector "app!==web": "app!==web": write key!=value`,
		"app=a b":        `label selector "app=a b": "app=a b": "a b" is no label value`,
		"/app":           `label selector "/app": "/app": "/app" is no label key`,
		"a/b/c=d":        `label selector "a/b/c=d": "a/b/c=d": "a/b/c" is no label key`,
		"app in (a),=":   `label selector "app in (a),=": "=": "" is no label key`,
		"app in (a,(b))": `label selector "app in (a,(b))": "app in (a,(b))": "(b)" is no label value`,
	}
	for text, want := range tests {
		if _, err := export.ParseSelector(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

// A selector and its opposite never agree, whatever the labels are.
func TestSelectorsAreOpposites(t *testing.T) {
	key, value := rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"", "x", "y"})
	rapid.Check(t, func(t *rapid.T) {
		labels := rapid.MapOfN(key, value, 0, 2).Draw(t, "labels")
		k, v := key.Draw(t, "key"), value.Draw(t, "value")
		for _, pair := range [][2]string{{k, "!" + k}, {k + "=" + v, k + "!=" + v}, {k + " in (" + v + ",z)", k + " notin (" + v + ",z)"}} {
			one, err := export.ParseSelector(pair[0])
			other, errOther := export.ParseSelector(pair[1])
			if err != nil || errOther != nil || one.Matches(labels) == other.Matches(labels) {
				t.Fatalf("%q and %q agree on %v (%v, %v)", pair[0], pair[1], labels, err, errOther)
			}
		}
	})
}

func FuzzParseSelector(f *testing.F) {
	f.Add("app in (a,b),!x,y!=z", "app", "a")
	f.Add("((,)", "", "")
	f.Fuzz(func(t *testing.T, text, key, value string) {
		selector, err := export.ParseSelector(text)
		if err != nil {
			if !selector.Empty() {
				t.Errorf("%q: an error, and a selector", text)
			}
			return
		}
		selector.Matches(map[string]string{key: value})
		if selector.Empty() != (strings.TrimSpace(text) == "") {
			t.Errorf("%q selects all", text)
		}
	})
}

// Once hosts are not published any more, nobody watches Ingresses and routes. What
// they have stated is replaced without a word about them, and stays until then.
func TestHostsAreSwitchedOff(t *testing.T) {
	a := slice("web-a", pod(1))
	on := cluster(web(), a)
	on.Ingresses = []export.Ingress{{Namespace: "shop", Name: "web", Rules: []export.IngressRule{
		{Host: "shop.example.com", Paths: []export.IngressPath{{Path: "/", Service: "web"}}}}}}
	for name, tt := range map[string]struct {
		is     export.Cluster
		policy func(*export.Policy)
		want   []string
	}{
		"another address serves":    {cluster(web(), a), func(*export.Policy) {}, []string{"web 198.18.64.1 8080"}},
		"a slice is missing":        {cluster(web(), missing(a)), func(*export.Policy) {}, []string{"web shop.example.com 80"}},
		"they are not switched off": {cluster(web(), a), func(p *export.Policy) { p.Ingress = true }, []string{"web 198.18.64.1 8080", "web shop.example.com 80"}},
		"the Service asks for them": {cluster(web(address("hostname")), a), func(*export.Policy) {}, []string{"web shop.example.com 80"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := settled(on, policy(func(p *export.Policy) { p.Ingress = true }))
			if diff := cmp.Diff([]string{"web shop.example.com 80"}, r.serving()); diff != "" {
				t.Fatalf("-want +got:\n%s", diff)
			}
			steps(t, r, input(tt.is, policy(tt.policy)))
			if diff := cmp.Diff(tt.want, r.serving()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
