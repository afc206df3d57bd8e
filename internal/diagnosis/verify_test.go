package diagnosis_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/service"
)

// catalogFacts are two pods that clients are given, and an entry of somebody
// else.
func catalogFacts() diagnosis.CatalogFacts {
	return diagnosis.CatalogFacts{
		Cluster: "east",
		Pods:    []diagnosis.Placed{{Pod: webPod(1), Node: "n1"}, {Pod: webPod(2), Node: "n2"}},
		Listings: []diagnosis.Listing{{Service: "web", Index: 42, Entries: []diagnosis.Listed{
			listed(webPod(1), "n1"), listed(webPod(2), "n2"), foreign("vm", "198.18.0.50"),
		}}},
	}
}

func TestVerify(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed)
		want []diagnosis.Difference // of web, of pod web-1 on n1 unless they say otherwise
	}{
		"as it should be": {func(*diagnosis.CatalogFacts, []diagnosis.Listed) {}, nil},
		"missing": {func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			f.Listings[0].Entries = entries[1:]
		}, []diagnosis.Difference{{Kind: diagnosis.Missing, Detail: "the servers have no entry"}}},
		"of another life of the pod": {func(_ *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			earlier := webPod(1)
			earlier.Ref.UID = "uid-before"
			entries[0] = listed(earlier, "n1")
		}, []diagnosis.Difference{
			{Kind: diagnosis.GivenGone, ID: "fairway_web_shop_web-1_uid-before", Detail: "given to clients, and there is no such pod (UID uid-before)"},
			{Kind: diagnosis.Missing, Detail: "the servers have no entry"},
		}},
		"kept back": {func(_ *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			entries[0] = hide(entries[0], "the node's serfHealth is critical")
		}, []diagnosis.Difference{{Kind: diagnosis.NotGiven, Detail: "the servers keep it from clients: the node's serfHealth is critical"}}},
		"not ready, and kept back": {func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			f.Pods[0].Pod.ContainersReady = false
			entries[0] = hide(entries[0], "its own check is critical")
		}, nil},
		"not ready, and not there": {func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			f.Pods[0].Pod.ContainersReady = false
			f.Listings[0].Entries = entries[1:]
		}, nil},
		"not ready, and given": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods[0].Pod.ContainersReady = false
		}, []diagnosis.Difference{{Kind: diagnosis.GivenUnready, Detail: "given to clients, though it should be critical: containers are not ready"}}},
		"ready, not Ready, and given": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) { // health is not the pod's Ready
			f.Pods[0].Pod.Gates[0].Open = false
		}, nil},
		"ends, and is given": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods[0].Pod.Terminating = true
		}, []diagnosis.Difference{{Kind: diagnosis.GivenLeaving, Detail: "given to clients, though the pod is being deleted"}}},
		"has ended, and is given": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods[0].Pod.Phase = service.PhaseFailed
		}, []diagnosis.Difference{{Kind: diagnosis.GivenLeaving, Detail: "given to clients, though the pod ends or has ended"}}},
		"has ended, and is kept back": {func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			f.Pods[0].Pod.Phase = service.PhaseFailed
			entries[0] = hide(entries[0], "its own check is critical")
		}, nil},
		"the pod is gone": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods = f.Pods[1:]
		}, []diagnosis.Difference{{Kind: diagnosis.GivenGone, Detail: "given to clients, and there is no such pod (UID uid-1)"}}},
		"the pod is gone, and its entry critical": {func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			f.Pods = f.Pods[1:]
			entries[0] = hide(entries[0], "its own check is critical")
		}, nil},
		"the pod is in another namespace than was asked about": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods, f.Namespace = nil, "elsewhere"
		}, nil},
		"not declared": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods[0].Pod.Annotations = nil
		}, []diagnosis.Difference{{Kind: diagnosis.GivenUndeclared, Detail: "given to clients, and the pod does not declare it"}}},
		"a bad annotation keeps what was registered": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods[0].Pod.Annotations = map[string]string{"fairway.dev/service-names": "web", "fairway.dev/service-port": "0"}
		}, []diagnosis.Difference{{Kind: diagnosis.BadAnnotation, Service: "-", ID: "-",
			Detail: `fairway.dev/service-port: "0" is out of range: give a number from 1 to 65535`}}},
		"another address, port and tags": {func(_ *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			entries[0].Instance.Address = foreign("", "198.18.64.99").Instance.Address
			entries[0].Instance.Port, entries[0].Instance.Tags = 9090, []string{"old"}
		}, []diagnosis.Difference{{Kind: diagnosis.Differs,
			Detail: "address differs: is 198.18.64.99, should be 198.18.64.1; port differs: is 9090, should be 8080; tags differ"}}},
		"under another node": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods[0].Node = "n3"
		}, []diagnosis.Difference{{Kind: diagnosis.Differs, Node: "n3", Detail: "meta differs: fairway-node"}}},
		"a check's TTL is not the servers' to tell": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Pods[0].Pod.Annotations["fairway.dev/service-check-ttl"] = "30s"
		}, nil},
		"given twice": {func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			f.Listings[0].Entries = append(entries, foreign("katalog_web", "198.18.64.1"))
		}, []diagnosis.Difference{{Kind: diagnosis.SameAddress, Detail: "198.18.64.1:8080 is given to clients also as katalog_web on Consul node vm-1"}}},
		"others at one address": {func(f *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			f.Listings[0].Entries = append(entries, foreign("vm-again", "198.18.0.50"))
		}, nil},
		"of a Service, for a pod that is not there": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Listings[0].Entries = append(f.Listings[0].Entries, ofService(listed(webPod(3), "")))
		}, nil},
		"of a Service and of the pod, to the same clients": {func(f *diagnosis.CatalogFacts, _ []diagnosis.Listed) {
			f.Listings[0].Entries = append(f.Listings[0].Entries, ofService(listed(webPod(1), "")))
		}, []diagnosis.Difference{{Kind: diagnosis.SameAddress,
			Detail: "198.18.64.1:8080 is given to clients also as fairway_shop_web_uid-uid-1_svc_web on Consul node fairway-east-services"}}},
		"of another cluster": {func(_ *diagnosis.CatalogFacts, entries []diagnosis.Listed) {
			entries[2] = listed(webPod(3), "n1")
			entries[2].Cluster = "west"
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := catalogFacts()
			c.edit(&f, f.Listings[0].Entries)
			for i := range c.want {
				fill(&c.want[i].Service, "web")
				fill(&c.want[i].Pod, "shop/web-1")
				fill(&c.want[i].Node, "n1")
				fill(&c.want[i].ID, service.InstanceID("web", webPod(1).Ref))
			}
			if diff := cmp.Diff(c.want, diagnosis.Verify(f).Differences, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// fill sets what a case leaves out; "-" stands for empty.
func fill(field *string, usual string) {
	switch *field {
	case "":
		*field = usual
	case "-":
		*field = ""
	}
}

func TestVerifyCounts(t *testing.T) {
	f := catalogFacts()
	f.Pods[0].Pod.ContainersReady = false
	f.Listings[0].Entries[0] = hide(f.Listings[0].Entries[0], "its own check is critical")
	f.Pods = append(f.Pods, diagnosis.Placed{Pod: service.Pod{Ref: service.PodRef{UID: "silent"}}, Node: "n1"})
	f.Listings[0].Entries = append(f.Listings[0].Entries, ofService(listed(webPod(4), "")))
	got := diagnosis.Verify(f)
	want := diagnosis.CatalogReport{Cluster: "east", Pods: 2, Instances: 2, Given: 1, Withheld: 1, OfServices: 1, Foreign: 1}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// What is over when it is looked at again is no finding.
func TestLasting(t *testing.T) {
	f := catalogFacts()
	f.Listings[0].Entries = nil
	first := diagnosis.Verify(f)
	f = catalogFacts()
	f.Listings[0].Entries = f.Listings[0].Entries[1:]
	f.Pods = append(f.Pods, diagnosis.Placed{Pod: webPod(3), Node: "n1"}) // missing only now
	second := diagnosis.Verify(f)
	if len(first.Differences) != 2 || len(second.Differences) != 2 {
		t.Fatalf("%+v, then %+v", first.Differences, second.Differences)
	}
	got := second.Lasting(first).Differences
	if len(got) != 1 || got[0].Pod != "shop/web-1" {
		t.Errorf("lasting: %+v", got)
	}
}
