package controller

import (
	"context"
	"errors"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/kube/imports"
)

const (
	// importWrites is how many Services are written at the same time.
	importWrites = 16
	// retryAfter, doubled by each failure, is the wait after a write that failed;
	// up to mostRetry, and to mostRefused if the API server will not take it.
	retryAfter  = 250 * time.Millisecond
	mostRetry   = 30 * time.Second
	mostRefused = 5 * time.Minute
)

// target is what is written: an object of a kind.
type target struct {
	kind string // service, slice or status
	ref  consulimport.Ref
}

// backlog is the writes that have failed. The same write is not tried again before
// its time; another one of the same object is.
type backlog map[target]unwritten

// unwritten is a write that has failed.
type unwritten struct {
	service consulimport.Ref // that the write is about
	want    any
	times   int
	until   time.Time
	words   string // the API server's, if it will not take the write
}

// refused are the words of the API server, by Service.
func (b backlog) refused() map[consulimport.Ref]string {
	words := map[consulimport.Ref]string{}
	for to, f := range b {
		if f.words != "" && to.kind != kindStatus {
			words[f.service] = f.words
		}
	}
	return words
}

// The kinds that are written.
const (
	kindService = "service"
	kindSlice   = "slice"
	kindStatus  = "status"
)

// writing is one pass's writes.
type writing struct {
	*importer
	view imports.View

	mu     sync.Mutex
	failed backlog // what has failed, or waits since it has
	// unsettled are the imports of which more is to be written than the API server
	// has refused: their status is not as decided yet.
	unsettled map[consulimport.Ref]bool
	news      bool // what the API server refuses has changed just now
}

// carryOut writes what was decided, and returns when it is to be tried again. What
// is about one Service is written in the order of the plan, and not at all after a
// write that failed: what adds endpoints comes before what removes them.
func (i *importer) carryOut(ctx context.Context, view imports.View, plan consulimport.Plan) time.Duration {
	w := &writing{importer: i, view: view, failed: backlog{}, unsettled: map[consulimport.Ref]bool{}}
	var order []consulimport.Ref
	ops := map[consulimport.Ref][]consulimport.Op{}
	for _, op := range plan.Ops {
		service := serviceOf(op)
		if ops[service] == nil {
			order = append(order, service)
		}
		ops[service] = append(ops[service], op)
	}
	var group errgroup.Group
	group.SetLimit(importWrites)
	for _, service := range order {
		group.Go(func() error {
			for _, op := range ops[service] {
				if !w.write(ctx, op) {
					break
				}
			}
			return nil
		})
	}
	_ = group.Wait() // none returns an error
	if !w.news {     // else the next pass knows better
		for _, status := range plan.Statuses {
			group.Go(func() error {
				w.tellImport(ctx, status)
				return nil
			})
		}
		_ = group.Wait()
	}
	i.backlog = w.failed
	return w.again()
}

// again is how long until the next write that has failed is due.
func (w *writing) again() time.Duration {
	if w.news {
		return 0
	}
	wait := importEvery
	for _, f := range w.failed {
		wait = min(wait, time.Until(f.until))
	}
	return wait
}

// write carries out an op, and tells whether it was done.
func (w *writing) write(ctx context.Context, op consulimport.Op) bool {
	kind, object := kindService, consulimport.Object{}
	if op.Service != nil {
		object = op.Service.Object
	} else {
		kind, object = kindSlice, op.Slice.Object
	}
	to := target{kind, object.Ref}
	done := w.attempt(ctx, to, unwritten{service: serviceOf(op), want: content(op)}, string(op.Verb), func(ctx context.Context) error {
		err := w.source.Apply(ctx, op)
		if err == nil {
			w.log.Info("wrote an imported Service", "op", string(op.Verb), "object", kind, "name", object.Ref.String(), "reason", op.Reason)
		}
		return err
	})
	if !done {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.failed[to].words == "" {
			w.unsettled[consulimport.Ref{Namespace: object.Ref.Namespace, Name: object.Import}] = true
		}
	}
	return done
}

// tellImport writes the status of an import.
func (w *writing) tellImport(ctx context.Context, status consulimport.Status) {
	if status.Pending || w.unsettled[status.Import] {
		return
	}
	to := target{kindStatus, status.Import}
	w.attempt(ctx, to, unwritten{want: status}, "update", func(ctx context.Context) error {
		wrote, err := w.source.Tell(ctx, w.view, status)
		if !wrote && err == nil {
			return errNotNeeded
		}
		return err
	})
}

// errNotNeeded: there was nothing to write.
var errNotNeeded = errors.New("it is so already")

// attempt makes a write unless it has just failed, and notes how it ended in f.
func (w *writing) attempt(ctx context.Context, to target, f unwritten, verb string, do func(context.Context) error) (done bool) {
	before, failedBefore := w.backlog[to]
	if failedBefore = failedBefore && reflect.DeepEqual(before.want, f.want); failedBefore && time.Now().Before(before.until) {
		w.fail(to, before)
		return false
	}
	if ctx.Err() != nil || !w.leader.leads() {
		return false
	}
	w.pulse.Beat()
	// A write that was begun is finished: nobody else knows how it ended.
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callWithin)
	defer cancel()
	err := do(call)
	if errors.Is(err, errNotNeeded) {
		return true
	}
	w.metrics.wrote(to.kind, err)
	if err == nil {
		w.spoke(to, before.words != "")
		return true
	}
	f.times = 1
	if failedBefore {
		f.times += before.times
	}
	most := mostRetry
	if refused, ok := errors.AsType[*imports.Refused](err); ok {
		f.words, most = refused.Words, mostRefused
	}
	f.until = time.Now().Add(min(most, retryAfter<<min(f.times, 16)))
	w.log.Warn("a write about an import failed", "op", verb, "object", to.kind, "name", to.ref.String(), "tried", f.times, "err", err)
	w.fail(to, f)
	w.spoke(to, f.words != before.words)
	return false
}

// spoke notes whether the API server says something else about a write than before:
// then the status that was decided is not true any more.
func (w *writing) spoke(to target, otherwise bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.news = w.news || otherwise && to.kind != kindStatus
}

func (w *writing) fail(to target, f unwritten) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed[to] = f
}

func serviceOf(op consulimport.Op) consulimport.Ref {
	if op.Service != nil {
		return op.Service.Ref
	}
	return consulimport.Ref{Namespace: op.Slice.Ref.Namespace, Name: op.Slice.Service}
}

// content is what an op writes, without what changes though the write is the same.
func content(op consulimport.Op) any {
	op.Reason = ""
	if op.Service != nil {
		service := *op.Service
		service.Mark, op.Service = 0, &service
	} else {
		slice := *op.Slice
		slice.Mark, op.Slice = 0, &slice
	}
	return op
}
