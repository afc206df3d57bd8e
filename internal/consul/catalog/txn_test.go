package catalog

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

var n1 = identity{cluster: "east", node: "n1", name: NodeName("east", "n1"), address: netip.MustParseAddr("198.18.0.21")}

func TestNodeName(t *testing.T) {
	for want, names := range map[string][2]string{
		"fairway-east-n1-46789a06":                                        {"east", "n1"},
		"fairway-prod-eu-1-ip-10-0-1-2-eu-central-1-compute-int-56205f1b": {"Prod_EU.1", "ip-10-0-1-2.eu-central-1.compute.internal"},
	} {
		if got := NodeName(names[0], names[1]); got != want {
			t.Errorf("%v: %s, want %s", names, got, want)
		}
	}
	legal := regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,250}`)
		cluster, node, other := name.Draw(t, "cluster"), name.Draw(t, "node"), name.Draw(t, "other")
		got := NodeName(cluster, node)
		if !legal.MatchString(got) || got != NodeName(cluster, node) {
			t.Errorf("%q is no label of DNS, or not always the same", got)
		}
		if other != node && NodeName(cluster, other) == got {
			t.Errorf("%q and %q have the same name", node, other)
		}
	})
	// What only looks the same does not collide.
	if NodeName("a-b", "c") == NodeName("a", "b-c") || NodeName("a", "b.c") == NodeName("a", "b-c") {
		t.Error("different nodes have the same name")
	}
}

// Every field of an Instance that is compared survives the way to Consul and
// back. One that is added and not converted fails here.
func TestInstanceSurvivesTheWayThere(t *testing.T) {
	pod := service.PodRef{Namespace: "shop", Name: "web-1", UID: "uid-1"}
	in := service.Instance{
		ID: service.InstanceID("web", pod), Name: "web", Pod: pod,
		Address: netip.MustParseAddr("198.18.64.7"), Port: 8080, Tags: []string{"v1"},
		Meta:   map[string]string{service.MetaNamespace: "shop", service.MetaPod: "web-1", service.MetaPodUID: "uid-1", "a": "b"},
		Health: service.Warning, Notes: "why",
	}
	value := reflect.ValueOf(in)
	for i := range value.NumField() {
		if value.Field(i).IsZero() {
			t.Errorf("field %s is not set in this test", value.Type().Field(i).Name)
		}
	}
	svc, check := definition(in), n1.check(in)
	p := picture{read: true, entries: map[string]holding{in.ID: {service: &svc, check: &check}}}
	if diff := cmp.Diff(in, p.list(false)[0].Instance, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

// Who is at fault fails with the first thing that Consul says of it, and the
// others are sent again.
func TestRefuse(t *testing.T) {
	stale, invalid, denied := "failed to set service, index is stale", "Invalid Service Meta", "Permission denied: x"
	fault := func(op int, what string) *api.TxnError { return &api.TxnError{OpIndex: op, What: what} }
	for name, c := range map[string]struct {
		starts []int // of writes a, b, c
		faults api.TxnErrors
		want   map[int]error
		again  []int
	}{
		"the second":                   {[]int{0, 2, 4}, api.TxnErrors{fault(3, invalid)}, map[int]error{1: consul.ErrInvalid}, []int{0, 2}},
		"two, one of them twice":       {[]int{0, 2, 4}, api.TxnErrors{fault(0, denied), fault(1, stale), fault(5, stale)}, map[int]error{0: consul.ErrDenied, 2: consul.ErrConflict}, []int{1}},
		"the node":                     {[]int{2, 4, 5}, api.TxnErrors{fault(0, denied)}, map[int]error{0: consul.ErrDenied, 1: consul.ErrDenied, 2: consul.ErrDenied}, nil},
		"after a renewal":              {[]int{2, 2, 4}, api.TxnErrors{fault(2, invalid)}, map[int]error{1: consul.ErrInvalid}, []int{0, 2}},
		"an op that was not sent":      {[]int{0, 2, 4}, api.TxnErrors{fault(6, invalid)}, map[int]error{0: consul.ErrInvalid, 1: consul.ErrInvalid, 2: consul.ErrInvalid}, nil},
		"a node that has been removed": {[]int{0, 2, 4}, api.TxnErrors{fault(0, "Missing node registration")}, map[int]error{0: consul.ErrConflict}, []int{1, 2}},
		"nobody":                       {[]int{0, 2, 4}, api.TxnErrors{nil}, map[int]error{0: consul.ErrUnusable, 1: consul.ErrUnusable, 2: consul.ErrUnusable}, nil},
	} {
		x := txn{starts: c.starts, ops: make(api.TxnOps, 6)}
		for range c.starts {
			x.writes = append(x.writes, &write{done: make(chan struct{})})
		}
		var again []int
		for _, w := range x.refuse(c.faults) {
			again = append(again, slices.Index(x.writes, w))
		}
		if diff := cmp.Diff(c.again, again); diff != "" {
			t.Errorf("%s: sent again (-want +got):\n%s", name, diff)
		}
		for i, w := range x.writes {
			if !errors.Is(w.err, c.want[i]) || (w.err == nil) != (c.want[i] == nil) {
				t.Errorf("%s: write %d: %v, want %v", name, i, w.err, c.want[i])
			}
		}
	}
}

// A transaction stays below Consul's limits, holds each write once and in
// order, and puts the node right before anything else.
func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &Registry{id: n1, picture: picture{read: true, entries: map[string]holding{}}}
		if rapid.Bool().Draw(t, "node exists") {
			node, lease := n1.definition(), n1.lease()
			r.picture.node, r.picture.lease = &node, &lease
		}
		var writes []*write
		for i := range rapid.IntRange(0, 200).Draw(t, "writes") {
			w := &write{done: make(chan struct{})}
			kind := rapid.SampledFrom([]registration.Kind{registration.Register, registration.SetHealth, registration.Deregister, "renew"}).Draw(t, "kind")
			in := service.Instance{ID: fmt.Sprint(i), Name: "web", Meta: map[string]string{service.MetaCluster: "east"}, Health: service.Critical}
			in.Notes = strings.Repeat("x", rapid.IntRange(0, 30_000).Draw(t, "size"))
			if kind != registration.Register {
				svc, check := definition(in), n1.check(in)
				svc.ModifyIndex, check.ModifyIndex = 1, 1
				r.picture.entries[in.ID] = holding{service: &svc, check: &check}
			}
			if kind != "renew" {
				w.op = &registration.Op{Kind: kind, Instance: in}
			}
			writes = append(writes, w)
		}
		x, rest := r.pack(writes)
		if len(x.ops) > mostOps || sizeOf(x.ops) > 512<<10 || sizeOf(x.ops) != x.size {
			t.Errorf("%d ops of %d bytes, counted as %d", len(x.ops), sizeOf(x.ops), x.size)
		}
		for _, w := range writes {
			places := 0
			for _, list := range [][]*write{x.writes, rest} {
				if slices.Contains(list, w) {
					places++
				}
			}
			select {
			case <-w.done:
				places++
			default:
			}
			if places != 1 {
				t.Errorf("a write is in %d places", places)
			}
		}
		if len(x.writes) > 0 && r.picture.node == nil && (x.ops[0].Node == nil || x.ops[1].Check.Check.CheckID != LeaseCheck) {
			t.Error("the node is not made first")
		}
		if len(rest) > 0 && len(x.writes) == 0 {
			t.Error("there is something to do, and nothing is done")
		}
	})
}
