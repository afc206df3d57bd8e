package txn

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
)

// Whatever the servers call a refusal: each write fails or is sent again, and
// that without those at fault, so that it ends.
func FuzzRefuse(f *testing.F) {
	f.Add([]byte(`{"Errors":[{"OpIndex":3,"What":"index is stale"},null]}`), uint8(3))
	f.Add([]byte(`{"Errors":[{"OpIndex":-1,"What":""},{"OpIndex":99}]}`), uint8(1))
	f.Add([]byte(`{"Errors":[]}`), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, writes uint8) {
		var answer api.TxnResponse
		if json.Unmarshal(body, &answer) != nil || writes == 0 {
			return // Exchange says so
		}
		x := txn{ops: make(api.TxnOps, 2*int(writes))}
		for i := range int(writes) {
			x.writes, x.starts = append(x.writes, &write{done: make(chan struct{})}), append(x.starts, 2*i)
		}
		again := x.refuse(answer.Errors)
		if len(again) == len(x.writes) {
			t.Errorf("all %d writes are sent again after %+v", len(again), answer.Errors)
		}
		for i, w := range x.writes {
			failed := w.err != nil
			if failed == slices.Contains(again, w) {
				t.Errorf("write %d: failed %v, sent again %v", i, failed, !failed)
			}
		}
	})
}
