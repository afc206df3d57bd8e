package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

const (
	// Consul's limits on a transaction; its own on bytes is 512 KiB unless
	// txn_max_req_len says otherwise.
	mostOps   = 128
	mostBytes = 500_000
	// txnTimeout leaves the servers the 7 s for which they look for a leader.
	txnTimeout = 9 * time.Second
)

// write is one call of Apply or Renew on its way. A nil op asks for the node
// and its lease alone.
type write struct {
	op   *registration.Op
	err  error // set before done is closed
	done chan struct{}
}

func (w *write) finish(err error) {
	w.err = err
	close(w.done)
}

// urgent tells whether clients must be kept from an instance.
func (w *write) urgent() bool {
	return w.op != nil && w.op.Kind == registration.SetHealth && w.op.Instance.Health == service.Critical
}

// commit queues a write and returns how it ended. One that was not sent when
// ctx ends is taken back; one that was sent is waited for.
func (r *Registry) commit(ctx context.Context, w *write) error {
	w.done = make(chan struct{})
	r.mu.Lock()
	r.queue = append(r.queue, w)
	if !r.sending {
		r.sending = true
		go r.send()
	}
	r.mu.Unlock()

	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	r.mu.Lock()
	i := slices.Index(r.queue, w)
	if i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
	r.mu.Unlock()
	if i >= 0 {
		return consul.Classify(fmt.Errorf("wait for the transaction before: %w", ctx.Err()))
	}
	<-w.done
	return w.err
}

// send sends what is queued, one transaction after the other, until there is
// no more. What is queued meanwhile goes into the next one together.
func (r *Registry) send() {
	for {
		r.mu.Lock()
		// What leaves service does not queue behind what enters it (I4).
		slices.SortStableFunc(r.queue, func(a, b *write) int {
			switch {
			case a.urgent() == b.urgent():
				return 0
			case a.urgent():
				return -1
			}
			return 1
		})
		t, rest := r.pack(r.queue)
		r.queue, r.sending = rest, len(t.writes) > 0 || len(rest) > 0
		sending := r.sending
		r.mu.Unlock()
		if !sending {
			return
		}
		r.carryOut(t)
	}
}

// txn is a transaction: first what puts the node right, then the ops of each
// write.
type txn struct {
	ops    api.TxnOps
	writes []*write
	starts []int // the position of each write's first op
	size   int   // of all ops in JSON, in bytes
}

// pack makes a transaction of as many writes as fit, in order, and returns the
// others. A write that needs none, or cannot be made, is finished. r.mu is
// held.
func (r *Registry) pack(writes []*write) (t txn, rest []*write) {
	nodeOps := r.id.nodeOps(r.picture)
	for i, w := range writes {
		if !r.picture.read {
			w.finish(&consul.Error{Kind: consul.ErrConflict, Err: errors.New("the entries have not been read yet")})
			continue
		}
		var ops api.TxnOps
		if w.op != nil {
			var err error
			if ops, err = r.id.ops(r.picture, *w.op); err != nil || len(ops) == 0 {
				w.finish(err)
				continue
			}
		}
		if len(t.ops) == 0 {
			ops = append(nodeOps[:len(nodeOps):len(nodeOps)], ops...)
		}
		size := sizeOf(ops)
		switch {
		case len(t.writes) == 0 && len(ops) == 0: // nothing is to be renewed
			w.finish(nil)
			continue
		case len(t.writes) > 0 && (len(t.ops)+len(ops) > mostOps || t.size+size > mostBytes):
			return t, writes[i:]
		}
		start := len(t.ops)
		if start == 0 {
			start = len(nodeOps)
		}
		t.starts = append(t.starts, start)
		t.ops, t.writes, t.size = append(t.ops, ops...), append(t.writes, w), t.size+size
	}
	return t, nil
}

func sizeOf(ops api.TxnOps) int {
	size := 0
	for _, op := range ops {
		text, _ := json.Marshal(op) // plain values
		size += len(text) + 1
	}
	return size
}

// carryOut sends a transaction and finishes its writes. Those that Consul
// refuses fail with its words, and the others are sent again without them.
func (r *Registry) carryOut(t txn) {
	if len(t.writes) == 0 {
		return
	}
	// Once sent it belongs to several callers, and so to the context of none.
	results, faults, err := exchange(context.Background(), r.client, t.ops)
	switch {
	case err == nil && len(faults) == 0:
		r.mu.Lock()
		r.picture.learn(t.ops, results)
		r.written = max(r.written, r.picture.index())
		r.mu.Unlock()
		for _, w := range t.writes {
			w.finish(nil)
		}
	case err == nil:
		r.again(t.refuse(faults))
	case errors.Is(err, consul.ErrInvalid) && len(t.writes) > 1:
		// It is the form of the whole that is refused, and nothing is said of
		// where. One of the halves goes through, or says more.
		half := len(t.writes) / 2
		r.again(t.writes[:half])
		r.again(t.writes[half:])
	default:
		for _, w := range t.writes {
			w.finish(err)
		}
	}
}

// again sends some writes of a refused transaction in new ones.
func (r *Registry) again(writes []*write) {
	for len(writes) > 0 {
		r.mu.Lock()
		t, rest := r.pack(writes)
		r.mu.Unlock()
		r.carryOut(t)
		writes = rest
	}
}

// refuse finishes the writes that are at fault and returns the others. If it is
// the node that is at fault, or nobody, all are.
func (t txn) refuse(faults api.TxnErrors) (others []*write) {
	whose := make([]error, len(t.writes))
	for _, fault := range faults {
		if fault == nil {
			continue
		}
		err := refusal(fault.What)
		i, _ := slices.BinarySearch(t.starts, fault.OpIndex+1)
		if i == 0 || fault.OpIndex >= len(t.ops) {
			return t.fail(err)
		}
		if whose[i-1] == nil { // what follows from the first fault is no news
			whose[i-1] = err
		}
	}
	if !slices.ContainsFunc(whose, func(err error) bool { return err != nil }) {
		return t.fail(unusable("a refusal without a fault"))
	}
	for i, w := range t.writes {
		if whose[i] == nil {
			others = append(others, w)
			continue
		}
		w.finish(whose[i])
	}
	return others
}

func (t txn) fail(err error) []*write {
	for _, w := range t.writes {
		w.finish(err)
	}
	return nil
}

// refusal gives the servers' words on one operation their kind.
func refusal(what string) error {
	kind := consul.ErrInvalid
	switch {
	case strings.Contains(what, "index is stale"), strings.Contains(what, "Missing node registration"),
		strings.Contains(what, "Missing service registration"):
		kind = consul.ErrConflict
	case consul.Refused(what):
		kind = consul.ErrDenied
	}
	return &consul.Error{Kind: kind, Err: api.StatusError{Code: http.StatusConflict, Body: what}}
}

// exchange sends a transaction. If the servers refuse it for its operations,
// there are faults and no error.
//
// It does not use the API client's own call, which drops the status of an
// answer and with it the difference between "never" and "not now".
func exchange(ctx context.Context, client *consul.Client, ops api.TxnOps) (api.TxnResults, api.TxnErrors, error) {
	ctx, cancel := context.WithTimeout(ctx, txnTimeout)
	defer cancel()
	var answer api.TxnResponse
	_, err := client.Raw().Write("/v1/txn", ops, &answer, (&api.WriteOptions{}).WithContext(ctx))
	if err == nil {
		return answer.Results, nil, nil
	}
	var status api.StatusError
	if !errors.As(err, &status) || status.Code != http.StatusConflict {
		return nil, nil, consul.Classify(err)
	}
	if err := json.Unmarshal([]byte(status.Body), &answer); err != nil || len(answer.Errors) == 0 {
		return nil, nil, unusable("a refusal without a fault")
	}
	return nil, answer.Errors, nil
}
