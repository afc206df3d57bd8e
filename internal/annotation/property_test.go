package annotation_test

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// text makes values of which many are almost right.
func text() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`( ?[a-cA-C_.-]{1,3} ?,?){0,4}`),
		rapid.StringMatching(`([a-c]{1,2}:[a-z:/.]{0,6},?){0,4}`),
		rapid.SampledFrom([]string{"", ",", "0", "1", "80", "65535", "65536", "-1", "http", "web", "web,admin",
			"http,dns", "dns,http,web", "passing", "critical", "passing:3", "passing:3,warning:0", "warning:x", "10s", "9s", "1h", "app", "app,gate",
			"fairway-node:x", "external-source:x", "consul-x:y", "a:b,a:c", strings.Repeat("x", 70)}),
		rapid.String(),
	)
}

// drawPod makes pods with annotations of both dialects, right and wrong.
func drawPod(t *rapid.T) service.Pod {
	p := service.Pod{Ref: ref, Annotations: map[string]string{}}
	if rapid.Bool().Draw(t, "address") {
		p.Addresses = rapid.SampledFrom([][]netip.Addr{
			{netip.MustParseAddr("198.18.64.7")}, {netip.MustParseAddr("fd00::7")},
			{netip.MustParseAddr("fd00::7"), netip.MustParseAddr("198.18.64.7"), netip.MustParseAddr("fd00::8")},
		}).Draw(t, "addresses")
	}
	p.Ports = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) service.ContainerPort {
		return service.ContainerPort{
			Name:     rapid.SampledFrom([]string{"", "http", "dns"}).Draw(t, "name"),
			Port:     rapid.Uint16().Draw(t, "port"),
			Protocol: rapid.SampledFrom([]string{"TCP", "UDP"}).Draw(t, "protocol"),
		}
	}), 0, 3).Draw(t, "ports")
	if rapid.Bool().Draw(t, "containers known") {
		p.Containers = []service.Container{{Name: "app"}, {Name: "gate"}}
	}
	for range rapid.IntRange(0, 8).Draw(t, "annotations") {
		prefix := rapid.SampledFrom([]string{annotation.Native, annotation.Native, annotation.Katalog, "example.com/"}).Draw(t, "prefix")
		key := rapid.SampledFrom([]string{annotation.Names, annotation.Names, "service-port", "service-tags", "service-meta",
			"service-health", "service-weights", "service-check-ttl", "container-exclude", "sidecar", "sync-interval",
			"service-port-", "service-tags-", "service-meta-", "service-health-", "serivce-health-", "service-weights-",
			"service-name", "servic-port", "note"}).Draw(t, "key")
		if strings.HasSuffix(key, "-") {
			key += rapid.OneOf(rapid.SampledFrom([]string{"web", "admin", "a", "b"}), rapid.String()).Draw(t, "service")
		}
		p.Annotations[prefix+key] = text().Draw(t, "value")
	}
	return p
}

// checkResult is what must hold for any pod. The limits are written down here
// once more, as Consul documents them, independent of the parser.
func checkResult(p service.Pod, r annotation.Result) error {
	dnsName := regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?$`)
	metaKey := regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)
	seen := map[string]bool{}
	for _, name := range r.Services {
		if !dnsName.MatchString(name) || len(name) > 63 || seen[strings.ToLower(name)] {
			return fmt.Errorf("service name %q", name)
		}
		seen[strings.ToLower(name)] = true
	}
	if len(r.Instances) > 0 && (len(p.Addresses) == 0 || !r.Declared) {
		return fmt.Errorf("instances of a pod without address, or that declares none")
	}
	for _, i := range r.Instances {
		health, fixed := r.Fixed.For(i.Name)
		switch {
		case !seen[strings.ToLower(i.Name)]:
			return fmt.Errorf("%s is not among the services", i.Name)
		case i.ID != service.InstanceID(i.Name, p.Ref) || i.Pod != p.Ref || i.Address != p.Addresses[0]:
			return fmt.Errorf("%s: identity %+v", i.Name, i)
		case i.Port == 0:
			return fmt.Errorf("%s: port 0", i.Name)
		case len(i.Meta) > 64-2: // registration adds cluster and node
			return fmt.Errorf("%s: %d pairs of meta", i.Name, len(i.Meta))
		case i.Meta[service.MetaPodUID] != p.Ref.UID || i.Meta[service.MetaSource] != "kubernetes":
			return fmt.Errorf("%s: own meta %v", i.Name, i.Meta)
		case i.Weights.Passing < 1 || i.Weights.Passing > 65535 || i.Weights.Warning < 0 || i.Weights.Warning > 65535:
			return fmt.Errorf("%s: weights %+v", i.Name, i.Weights)
		case i.CheckTTL != 0 && i.CheckTTL < 10*time.Second:
			return fmt.Errorf("%s: check TTL %s", i.Name, i.CheckTTL)
		case fixed && health == "":
			return fmt.Errorf("%s: health that was not understood", i.Name)
		}
		for name, address := range i.Tagged {
			if strings.HasSuffix(name, "ipv4") != address.Is4() || !slices.Contains(p.Addresses, address) {
				return fmt.Errorf("%s: %s is %s", i.Name, name, address)
			}
		}
		for _, tag := range i.Tags {
			if tag == "" || strings.TrimSpace(tag) != tag || !utf8.ValidString(tag) {
				return fmt.Errorf("%s: tag %q", i.Name, tag)
			}
		}
		for k, v := range i.Meta {
			if !metaKey.MatchString(k) || len(k) > 128 || len(v) > 512 || !utf8.ValidString(v) || strings.HasPrefix(k, "consul-") {
				return fmt.Errorf("%s: meta %q=%q", i.Name, k, v)
			}
		}
	}
	if p.Addresses != nil && len(r.Instances) < len(r.Services) && len(r.Errors) == 0 {
		return fmt.Errorf("a service is missing without an error")
	}
	for _, name := range r.Excluded {
		if name == "" || p.Containers != nil && !slices.ContainsFunc(p.Containers, func(c service.Container) bool { return c.Name == name }) {
			return fmt.Errorf("container %q is excluded", name)
		}
	}
	for _, e := range r.Errors {
		if e.Problem == "" || !strings.HasPrefix(e.Key, annotation.Native) && !strings.HasPrefix(e.Key, annotation.Katalog) {
			return fmt.Errorf("error %+v", e)
		}
	}
	return nil
}

func TestEveryInstanceIsValidForConsul(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPod(t)
		if err := checkResult(p, annotation.Parse(p)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestParseIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPod(t)
		again := p
		again.Annotations = map[string]string{}
		maps.Copy(again.Annotations, p.Annotations) // another order of iteration
		if diff := cmp.Diff(annotation.Parse(p), annotation.Parse(again), cmp.Comparer(compareAddr)); diff != "" {
			t.Fatalf("two answers for one pod:\n%s", diff)
		}
	})
}

// Whatever else is on the pod, annotations for one service neither take away
// nor change another.
func TestABadServiceHurtsNothingElse(t *testing.T) {
	good := native("service-names", "good", "service-port-good", "80", "service-tags-good", "v1", "service-meta-good", "k:v")
	want := annotation.Parse(pod(good)).Instances[0]
	rapid.Check(t, func(t *rapid.T) {
		bad := merge(good, native(
			"service-names", "good,bad", "service-port-bad", text().Draw(t, "port"),
			"service-tags-bad", text().Draw(t, "tags"), "service-meta-bad", text().Draw(t, "meta"),
			"service-health-bad", text().Draw(t, "health"), "service-weights-bad", text().Draw(t, "weights"),
			"container-exclude", text().Draw(t, "containers"), "sidecar", text().Draw(t, "sidecar"),
			"service-"+text().Draw(t, "unknown key"), text().Draw(t, "unknown"),
		), good)
		bad[annotation.Native+annotation.Names] = "good,bad," + rapid.StringMatching(`[A-F_.,-]{0,6}`).Draw(t, "names")
		result := annotation.Parse(pod(bad))
		got := result.Instances
		if len(got) == 0 {
			t.Fatal("the good service is gone")
		}
		if health, fixed := result.Fixed.For("good"); fixed {
			t.Fatalf("the good service is fixed at %q", health)
		}
		if diff := cmp.Diff(want, got[0], cmp.Comparer(compareAddr)); diff != "" {
			t.Fatalf("the good service changed:\n%s", diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("web, admin", "http,dns", "a,b", "k:v,url:http://x:1", "passing", "passing:10,warning:1", "1m", "app", "service-port-web", "81")
	f.Add(",", "0", ",", ":", "", ":", "9s", ",", "service-tag", "")
	f.Add("Web,web", "65536", "a,a", "fairway-node:x", "Passing", "passing:-1", "1", "app,ap", "service-meta-", "a:\xff")
	f.Add("web", "dns,http", "", "port-http:1", "critical", "warning:65536", "1000000h", "gate", "serivce-health-web", "warning")
	f.Fuzz(func(t *testing.T, names, port, tags, meta, health, weights, ttl, container, key, value string) {
		for _, prefix := range []string{annotation.Native, annotation.Katalog} {
			p := pod(map[string]string{
				prefix + "service-names": names, prefix + "service-port": port,
				prefix + "service-tags": tags, prefix + "service-meta": meta,
				prefix + "service-health": health, prefix + "service-weights": weights,
				prefix + "service-check-ttl": ttl, prefix + "sync-interval": ttl,
				prefix + "container-exclude": container, prefix + "sidecar": container,
			})
			if _, taken := p.Annotations[prefix+key]; !taken {
				p.Annotations[prefix+key] = value
			}
			if err := checkResult(p, annotation.Parse(p)); err != nil {
				t.Error(err)
			}
		}
	})
}
