package txn

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/consul"
)

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
// order, and what leads comes first.
func TestPack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		op := func(name string, size int) *api.TxnOp {
			return &api.TxnOp{KV: &api.KVTxnOp{Verb: api.KVSet, Key: name, Value: make([]byte, size)}}
		}
		var lead api.TxnOps
		for range rapid.IntRange(0, 2).Draw(t, "lead") {
			lead = append(lead, op("lead", 0))
		}
		q := &Queue{Lead: func() api.TxnOps { return lead }}
		var writes []*write
		for i := range rapid.IntRange(0, 200).Draw(t, "writes") {
			n, size := rapid.IntRange(-1, 2).Draw(t, "ops"), rapid.IntRange(0, 30_000).Draw(t, "size")
			writes = append(writes, &write{done: make(chan struct{}), Write: Write{Ops: func() (ops api.TxnOps, err error) {
				if n < 0 {
					return nil, errors.New("cannot be made")
				}
				for range n {
					ops = append(ops, op(fmt.Sprint(i), size))
				}
				return ops, nil
			}}})
		}
		x, rest := q.pack(writes)
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
		if len(x.writes) > 0 && len(lead) > 0 && x.ops[0] != lead[0] {
			t.Error("what leads does not come first")
		}
		if len(rest) > 0 && len(x.writes) == 0 {
			t.Error("there is something to do, and nothing is done")
		}
	})
}
