package purge

import (
	"testing"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/service"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	entry := func(change ...func(*Entry)) Entry {
		e := Entry{ConsulNode: "k8s-sync", ID: "web-1", Service: "web", Address: "10.0.0.1", Port: 80, Health: service.Passing, Kubernetes: true}
		for _, c := range change {
			c(&e)
		}
		return e
	}
	other := func(change ...func(*Entry)) Entry {
		return entry(append(change, func(e *Entry) { e.ConsulNode, e.ID = "fairway-east", "fairway_web" })...)
	}
	health := func(h service.Health) func(*Entry) { return func(e *Entry) { e.Health = h } }
	for name, tt := range map[string]struct {
		in     Input
		remove bool
		reason Reason
	}{
		"critical":                   {Input{Asked: []Entry{entry(health(service.Critical))}}, true, NotGiven},
		"passing":                    {Input{Asked: []Entry{entry()}}, false, InService},
		"warning":                    {Input{Asked: []Entry{entry(health(service.Warning))}}, false, InService},
		"passing, allowed":           {Input{Asked: []Entry{entry()}, InService: true}, true, Allowed},
		"covered":                    {Input{Asked: []Entry{entry()}, Others: []Entry{other()}}, true, Covered},
		"covered by what may not be": {Input{Asked: []Entry{entry()}, Others: []Entry{other(health(service.Warning))}}, false, InService},
		"another port":               {Input{Asked: []Entry{entry()}, Others: []Entry{other(func(e *Entry) { e.Port++ })}}, false, InService},
		"another address":            {Input{Asked: []Entry{entry()}, Others: []Entry{other(func(e *Entry) { e.Address = "10.0.0.2" })}}, false, InService},
		"another name":               {Input{Asked: []Entry{entry()}, Others: []Entry{other(func(e *Entry) { e.Service = "db" })}}, false, InService},
		"of a Consul agent": {Input{Asked: []Entry{entry(health(service.Critical), func(e *Entry) { e.Agent = true })}, InService: true},
			false, AgentKeeps},
		"of something else": {Input{Asked: []Entry{entry(health(service.Critical), func(e *Entry) { e.Kubernetes = false })}, InService: true},
			false, NotKubernetes},
	} {
		got := Decide(tt.in)
		if len(got) != 1 || got[0].Remove != tt.remove || got[0].Reason != tt.reason || got[0].Says == "" {
			t.Errorf("%s: %+v; want remove %v, %s", name, got, tt.remove, tt.reason)
		}
	}
}

// Whatever is purged, clients are given every place that they were given before,
// unless a person allows what they would miss.
func TestI1PurgeTakesNoPlaceFromClients(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		entries := func(node string) *rapid.Generator[[]Entry] {
			return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Entry {
				return Entry{
					ConsulNode: node, ID: rapid.StringMatching("[a-z]{3}").Draw(t, "id"), Service: rapid.SampledFrom([]string{"web", "db"}).Draw(t, "service"),
					Address: rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2"}).Draw(t, "address"), Port: rapid.IntRange(80, 81).Draw(t, "port"),
					Health:     rapid.SampledFrom([]service.Health{service.Passing, service.Warning, service.Critical}).Draw(t, "health"),
					Kubernetes: rapid.Bool().Draw(t, "kubernetes"), Agent: rapid.Bool().Draw(t, "agent"),
				}
			}), 0, 8, func(e Entry) string { return e.ID })
		}
		in := Input{Asked: entries("old").Draw(t, "asked"), Others: entries("new").Draw(t, "others")}
		after := map[string]bool{}
		for _, e := range in.Others {
			after[e.Service+e.Place()] = after[e.Service+e.Place()] || e.given()
		}
		for _, d := range Decide(in) {
			if !d.Remove {
				after[d.Entry.Service+d.Entry.Place()] = after[d.Entry.Service+d.Entry.Place()] || d.Entry.given()
			}
		}
		for _, e := range in.Asked {
			if e.given() && !after[e.Service+e.Place()] {
				t.Fatalf("clients miss %+v", e)
			}
		}
	})
}
