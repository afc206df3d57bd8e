package services

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/export"
)

// world is what an API server knows of EndpointSlices, and how much of it a Source
// has been told.
type world struct {
	t       *rapid.T
	s       *Source
	history []change
	told    int // how many of the history the watch has brought, or a list has skipped

	seen   map[export.Object]uint64 // by object, the newest content that a View has shown
	lacked map[export.Object]bool   // lists have lacked it
	before map[string]serviceSlices // by Service, as it was at the last call of Changes
}

// change is one write of the API server. Its revision is its place in the history.
type change struct {
	slice   *discoveryv1.EndpointSlice
	deleted bool
}

// serviceSlices are what is shown of the slices of a Service, by name.
type serviceSlices map[string]export.EndpointSlice

// at is what there is after some of the history.
func (w *world) at(n int) map[string]*discoveryv1.EndpointSlice {
	there := map[string]*discoveryv1.EndpointSlice{}
	for _, c := range w.history[:n] {
		there[c.slice.Name] = c.slice
		if c.deleted {
			delete(there, c.slice.Name)
		}
	}
	return there
}

// write has the API server make, change or delete a slice. Its endpoint tells which
// revision it is of.
func (w *world) write() {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "name")
	service := rapid.SampledFrom([]string{"web", "api", ""}).Draw(w.t, "service")
	revision := len(w.history) + 1
	_, exists := w.at(len(w.history))[name]
	w.history = append(w.history, change{
		slice:   slice(name, service, revision, strconv.Itoa(revision)),
		deleted: exists && rapid.Bool().Draw(w.t, "delete"),
	})
}

// deliver has the watch bring the next event.
func (w *world) deliver() {
	if w.told == len(w.history) {
		return
	}
	c := w.history[w.told]
	_, existed := w.at(w.told)[c.slice.Name]
	w.told++
	var err error
	switch {
	case c.deleted:
		err = w.s.slices.Delete(c.slice)
	case existed:
		err = w.s.slices.Update(c.slice)
	default:
		err = w.s.slices.Add(c.slice)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// list has the reflector list anew. It is told what was there at some time, not
// before what it knows, and perhaps not all of it.
func (w *world) list(honest bool) {
	w.told = rapid.IntRange(w.told, len(w.history)).Draw(w.t, "as of")
	var listed []any
	there := w.at(w.told)
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if honest || rapid.IntRange(0, 3).Draw(w.t, "lack") > 0 {
			listed = append(listed, there[name])
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		if !slices.ContainsFunc(listed, func(o any) bool { return o.(*discoveryv1.EndpointSlice).Name == name }) {
			w.lacked[objectOf(export.KindEndpointSlice, name)] = true
		}
	}
	if err := w.s.slices.Replace(listed, strconv.Itoa(w.told)); err != nil {
		w.t.Fatal(err)
	}
}

// ask asks about a slice. The answer is as of now; what the watch brings, and what
// happens after, comes in before it.
func (w *world) ask() {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "name")
	w.s.slices.get = func(context.Context, string, string) (any, error) {
		found, ok := w.at(len(w.history))[name]
		for range rapid.IntRange(0, 3).Draw(w.t, "meanwhile") {
			rapid.SampledFrom([]func(){w.write, w.deliver, w.deliver, func() { w.list(false) }}).Draw(w.t, "what")()
		}
		if !ok {
			return nil, apierrors.NewNotFound(discoveryv1.Resource("endpointslices"), name)
		}
		return found, nil
	}
	if err := w.s.Ask(w.t.Context(), objectOf(export.KindEndpointSlice, name)); err != nil {
		w.t.Fatal(err)
	}
}

// forget drops proofs, of objects that nobody will miss.
func (w *world) forget() {
	w.s.Forget(func(object export.Object) bool {
		keep := rapid.Bool().Draw(w.t, "keep")
		if !keep {
			delete(w.seen, object)
		}
		return keep
	})
}

// look holds what is shown against what was shown and what is true.
func (w *world) look() {
	touched, all := w.s.Changes()
	view := w.s.View()
	shown := map[export.Object]export.EndpointSlice{}
	now := map[string]serviceSlices{"web": {}, "api": {}}
	for _, s := range view.Cluster.Slices {
		object := s.Object()
		if _, twice := shown[object]; twice {
			w.t.Fatalf("%s is there twice", object)
		}
		shown[object] = s
		if revision := revisionOf(s); revision < w.seen[object] {
			w.t.Fatalf("%s went back from revision %d to %d", object, w.seen[object], revision)
		} else {
			w.seen[object] = revision
		}
		if s.Missing && !w.lacked[object] {
			w.t.Fatalf("%s is missing, and no list has lacked it", object)
		}
		if now[s.Service] != nil {
			now[s.Service][s.Name] = s
		}
	}
	for object := range w.seen {
		if _, ok := shown[object]; !ok && view.Cluster.Gone[object] == "" {
			w.t.Fatalf("%s is forgotten, and nothing has proven that it is gone", object)
		}
	}
	for object := range view.Cluster.Gone {
		if _, there := shown[object]; there {
			w.t.Fatalf("%s is shown, and proven gone", object)
		}
		if seen, ok := w.seen[object]; ok && !w.deletedAfter(object.Name, seen) {
			w.t.Fatalf("%s is proven gone, and was not deleted since it was seen", object)
		}
	}
	for service, before := range w.before {
		if diff := !maps.EqualFunc(before, now[service], equal); diff && !all && !slices.Contains(touched, objectOf(export.KindService, service)) {
			w.t.Fatalf("the slices of %s have changed, and nobody was told: %v before, %v now", service, before, now[service])
		}
	}
	w.before = now
}

func equal(a, b export.EndpointSlice) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// deletedAfter tells whether a slice was deleted after a revision.
func (w *world) deletedAfter(name string, revision uint64) bool {
	return slices.ContainsFunc(w.history[revision:], func(c change) bool { return c.deleted && c.slice.Name == name })
}

func revisionOf(s export.EndpointSlice) uint64 { return parseRevision(s.Endpoints[0].Addresses[0]) }

// TestI1NothingIsForgottenWithoutProof: whatever watches, lists that lack objects and
// answers bring, in whatever order, an object that was shown is shown until it is
// proven gone, and never as it was before. Changes tells of every Service whose slices
// look different. In the end, the View is what there is.
func TestI1NothingIsForgottenWithoutProof(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &world{
			t: t, s: unheard(t, Options{}), seen: map[export.Object]uint64{}, lacked: map[export.Object]bool{},
			before: map[string]serviceSlices{"web": {}, "api": {}},
		}
		actions := map[string]func(*rapid.T){"": func(*rapid.T) { w.look() }}
		for name, do := range map[string]func(){
			"write": w.write, "write more": w.write, "deliver": w.deliver, "deliver more": w.deliver, "ask": w.ask, "forget": w.forget,
			"list": func() { w.list(false) },
		} {
			actions[name] = func(*rapid.T) { do() }
		}
		t.Repeat(actions)
		w.list(true)
		for w.told < len(w.history) {
			w.deliver()
		}
		for _, s := range w.s.View().Cluster.Slices { // what was deleted unseen
			if s.Missing {
				w.s.slices.get = answering(nil, apierrors.NewNotFound(discoveryv1.Resource("endpointslices"), s.Name))
				do(t, w.s.Ask(t.Context(), s.Object()))
			}
		}
		w.look()
		want, got := map[string]uint64{}, map[string]uint64{}
		for name, s := range w.at(len(w.history)) {
			want[name] = parseRevision(s.ResourceVersion)
		}
		for _, s := range w.s.View().Cluster.Slices {
			got[s.Name] = revisionOf(s)
		}
		if !maps.Equal(want, got) {
			t.Fatalf("there is %v, and %v is shown", want, got)
		}
	})
}
