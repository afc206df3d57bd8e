package diagnosis

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// longTTL is how long an entry may outlive katalog-sync without a word.
const longTTL = time.Minute

// pods says what the pods that are annotated for katalog-sync will find
// different with Fairway.
func (m *migration) pods() Section {
	s := Section{Title: "pods"}
	c := contrast{problems: groups{}, notes: groups{}, listed: map[string]service.Instance{}}
	for _, listing := range m.Listings {
		for _, entry := range listing.Entries {
			c.listed[entry.Instance.ID] = entry.Instance
		}
	}
	count := 0
	for _, placed := range m.Pods {
		if _, theirs := placed.Pod.Annotations[annotation.Katalog+annotation.Names]; theirs && !placed.Pod.Ended() {
			count++
			c.pod(placed.Pod)
		}
	}
	if count > 0 {
		s.add(OK, "Pods", "", "%s annotated for katalog-sync", plural(count, "pod is", "pods are"))
	}
	c.problems.write(&s, Problem)
	c.notes.write(&s, Note)
	return s
}

// contrast gathers what is different between katalog-sync and Fairway.
type contrast struct {
	problems, notes groups
	listed          map[string]service.Instance // what the servers hold, by ID
}

func (c contrast) pod(pod service.Pod) {
	name := pod.Ref.String()
	if _, native := pod.Annotations[annotation.Native+annotation.Names]; native {
		c.notes.add("NativeFirst", "Fairway reads the annotations "+annotation.Native+"… alone, katalog-sync those of its own", name)
		return
	}
	parsed := annotation.Parse(pod)
	for _, e := range parsed.Errors {
		c.problems.add("NotUnderstood", e.String(), name)
	}
	if pod.HasGate(service.GateKatalog) {
		c.notes.add("KatalogGate", "the gate "+service.GateKatalog+" is opened by Fairway only with katalogSync=take-over; "+
			"new manifests should have "+service.GateReachable, name)
		if kept, fixed := gate.NeverPassing(parsed); kept != "" {
			c.problems.add("FixedHealth", fmt.Sprintf("the gate never opens while service-health keeps service %s at %s", kept, fixed), name)
		}
	}
	if sidecar := pod.Annotations[annotation.Katalog+"sidecar"]; sidecar != "" {
		c.notes.add("Sidecar", "container "+sidecar+" asks katalog-sync's RPC: set drain.katalogPort to its port when katalog-sync has stopped", name)
	}
	for _, in := range parsed.Instances {
		was, ok := c.listed[succession.EntryID(in.Name, pod.Ref)]
		if !ok {
			continue
		}
		// The same annotation is Fairway's dead-man, and does no harm there.
		if in.CheckTTL > longTTL {
			c.notes.add("LongTTL", fmt.Sprintf("what katalog-sync has registered stays passing for %s when katalog-sync has gone, "+
				"whatever becomes of the pod: take service-check-ttl off the template and let it roll before", in.CheckTTL), name)
		}
		compare(c.notes, name, was, in)
	}
}

// compare says in what Fairway's entry will not be what katalog-sync's is, for
// clients that look at it. Address, port and health are judged with the entries.
func compare(notes groups, pod string, was, will service.Instance) {
	if !slices.Equal(was.Tags, will.Tags) {
		notes.add("Tags", fmt.Sprintf("service %s: the tags are %q now and will be %q", will.Name, was.Tags, will.Tags), pod)
	}
	own := func(key string) bool {
		return strings.HasPrefix(key, "external-") || strings.HasPrefix(key, "fairway-")
	}
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(will.Meta)) {
		if !own(key) && was.Meta[key] != will.Meta[key] {
			keys = append(keys, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(was.Meta)) {
		if _, both := will.Meta[key]; !both && !own(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		notes.add("Meta", fmt.Sprintf("service %s: the meta will differ in %s", will.Name, strings.Join(keys, ", ")), pod)
	}
}
