// Package txn writes to the catalog of the Consul servers in transactions that
// callers share: while one is on its way, the writes of others gather for the
// next. A hundred writes at once are a few entries in Consul's log.
package txn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
)

const (
	// Consul's limits on a transaction; its own on bytes is 512 KiB unless
	// txn_max_req_len says otherwise.
	mostOps   = 128
	mostBytes = 500_000
	// timeout leaves the servers the 7 s for which they look for a leader.
	timeout = 9 * time.Second
	// gather is how long the first write waits for others that are made in the
	// same breath. Without it the second service of a pod would wait for the
	// transaction of the first, which takes several times as long.
	gather = time.Millisecond
)

// Queue sends writes, one transaction after the other.
type Queue struct {
	Client *consul.Client
	// Lead, if set, gives what comes first in every transaction, on account of
	// all its writes; often nothing.
	Lead func() api.TxnOps
	// Learn, if set, is told of each transaction that was carried out, before
	// its writes return.
	Learn func(sent api.TxnOps, results api.TxnResults)

	mu      sync.Mutex
	waiting []*write
	sending bool
}

// Write is what one caller wants written: all of it or nothing.
type Write struct {
	// Ops is asked when the transaction is put together. Without any the write
	// asks for what leads the transaction, and is done if that is nothing.
	Ops func() (api.TxnOps, error)
	// Urgent goes before what is not.
	Urgent bool
}

// write is a Write on its way.
type write struct {
	Write
	err  error // set before done is closed
	done chan struct{}
}

func (w *write) finish(err error) {
	w.err = err
	close(w.done)
}

// Commit queues a write and returns how it ended. One that was not sent when
// ctx ends is taken back; one that was sent is waited for.
func (q *Queue) Commit(ctx context.Context, what Write) error {
	w := &write{Write: what, done: make(chan struct{})}
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	if !q.sending {
		q.sending = true
		time.AfterFunc(gather, q.send)
	}
	q.mu.Unlock()

	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
	}
	q.mu.Lock()
	i := slices.Index(q.waiting, w)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	q.mu.Unlock()
	if i >= 0 {
		return consul.Classify(fmt.Errorf("wait for the transaction before: %w", ctx.Err()))
	}
	<-w.done
	return w.err
}

// send sends what is queued until there is no more. What is queued meanwhile
// goes into the next transaction together.
func (q *Queue) send() {
	for {
		q.mu.Lock()
		// What leaves service does not queue behind what enters it (I4).
		slices.SortStableFunc(q.waiting, func(a, b *write) int {
			switch {
			case a.Urgent == b.Urgent:
				return 0
			case a.Urgent:
				return -1
			}
			return 1
		})
		t, rest := q.pack(q.waiting)
		q.waiting, q.sending = rest, len(t.writes) > 0 || len(rest) > 0
		sending := q.sending
		q.mu.Unlock()
		if !sending {
			return
		}
		q.carryOut(t)
	}
}

// txn is a transaction: first what leads it, then the ops of each write.
type txn struct {
	ops    api.TxnOps
	writes []*write
	starts []int // the position of each write's first op
	size   int   // of all ops in JSON, in bytes
}

// pack makes a transaction of as many writes as fit, in order, and returns the
// others. A write that needs none, or cannot be made, is finished.
func (q *Queue) pack(writes []*write) (t txn, rest []*write) {
	var lead api.TxnOps
	if q.Lead != nil {
		lead = q.Lead()
	}
	for i, w := range writes {
		ops, err := w.Ops()
		if err != nil {
			w.finish(err)
			continue
		}
		if len(ops) == 0 && len(lead) == 0 {
			w.finish(nil)
			continue
		}
		if len(t.ops) == 0 {
			ops = slices.Concat(lead, ops)
		}
		size := sizeOf(ops)
		if len(t.writes) > 0 && (len(t.ops)+len(ops) > mostOps || t.size+size > mostBytes) {
			return t, writes[i:]
		}
		start := len(t.ops)
		if start == 0 {
			start = len(lead)
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
func (q *Queue) carryOut(t txn) {
	if len(t.writes) == 0 {
		return
	}
	// Once sent it belongs to several callers, and so to the context of none.
	results, faults, err := Exchange(context.Background(), q.Client, t.ops)
	switch {
	case err == nil && len(faults) == 0:
		if q.Learn != nil {
			q.Learn(t.ops, results)
		}
		for _, w := range t.writes {
			w.finish(nil)
		}
	case err == nil:
		q.again(t.refuse(faults))
	case errors.Is(err, consul.ErrInvalid) && len(t.writes) > 1:
		// It is the form of the whole that is refused, and nothing is said of
		// where. One of the halves goes through, or says more.
		half := len(t.writes) / 2
		q.again(t.writes[:half])
		q.again(t.writes[half:])
	default:
		for _, w := range t.writes {
			w.finish(err)
		}
	}
}

// again sends some writes of a refused transaction in new ones.
func (q *Queue) again(writes []*write) {
	for len(writes) > 0 {
		t, rest := q.pack(writes)
		q.carryOut(t)
		writes = rest
	}
}

// refuse finishes the writes that are at fault and returns the others. If it is
// what leads that is at fault, or nobody, all are.
func (t txn) refuse(faults api.TxnErrors) (others []*write) {
	whose := make([]error, len(t.writes))
	for _, fault := range faults {
		if fault == nil {
			continue
		}
		err := Refusal(fault.What)
		i, _ := slices.BinarySearch(t.starts, fault.OpIndex+1)
		if i == 0 || fault.OpIndex >= len(t.ops) {
			return t.fail(err)
		}
		if whose[i-1] == nil { // what follows from the first fault is no news
			whose[i-1] = err
		}
	}
	if !slices.ContainsFunc(whose, func(err error) bool { return err != nil }) {
		return t.fail(consul.Unusable("a refusal without a fault"))
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

// Refusal gives the servers' words on one operation their kind.
func Refusal(what string) error {
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

// Exchange sends a transaction. If the servers refuse it for its operations,
// there are faults and no error.
//
// It does not use the API client's own call, which drops the status of an
// answer and with it the difference between "never" and "not now".
func Exchange(ctx context.Context, client *consul.Client, ops api.TxnOps) (api.TxnResults, api.TxnErrors, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
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
		return nil, nil, consul.Unusable("a refusal without a fault")
	}
	return nil, answer.Errors, nil
}
