package agentapi

import (
	"context"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/txn"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// The agent tells the servers of its changes one by one, a few milliseconds
// each: with a hundred pods on a node the last would wait half a second to be
// found, or worse, to be left alone. So what clients wait for is also written
// straight to the servers, in transactions that many entries share. The agent
// still gets every write and has the last word: what the transaction leaves
// undone or gets wrong, the agent puts right as it always did.

// shortcut starts to write what an op means to clients to the servers. The
// returned function waits for the end of that, or of ctx. How it ended is not
// told: it is the agent's word that counts.
func (r *Registry) shortcut(ctx context.Context, op registration.Op) (wait func()) {
	_, exists := r.holding(op.Instance.ID)
	in, ok := direct(op, exists)
	if !ok {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.direct.Commit(ctx, txn.Write{Urgent: in.Health == service.Critical, Ops: func() (api.TxnOps, error) {
			return r.serverOps(ctx, op.Kind, in)
		}})
	}()
	return func() {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

// direct is what is written to the servers directly, if anything, of an entry
// that the agent holds already or not.
func direct(op registration.Op, exists bool) (in service.Instance, ok bool) {
	in = op.Instance
	switch op.Kind {
	case registration.SetHealth:
		return in, exists
	case registration.Register:
		in.Notes = "" // the agent's new check has none: it would put ours right with one more write
		return in, !exists && in.Health != service.Critical
	}
	return in, false
}

// Push makes the servers hold an entry as the agent does. The agent itself
// would find out only with its next full comparison, minutes later.
func (r *Registry) Push(ctx context.Context, entry registration.Entry) error {
	if err := r.Renew(ctx, []registration.Entry{entry}); err != nil {
		return err
	}
	return r.direct.Commit(ctx, txn.Write{Ops: func() (api.TxnOps, error) {
		return r.serverOps(ctx, registration.Register, entry.Instance)
	}})
}

// serverOps are an entry, or its health alone, as the agent would write it: the
// agent must find nothing to correct.
func (r *Registry) serverOps(ctx context.Context, kind registration.Kind, in service.Instance) (api.TxnOps, error) {
	node, err := r.identity.NodeName(ctx)
	if err != nil {
		return nil, err
	}
	check := r.check(in.ID, in.Health, in.CheckTTL)
	ops := api.TxnOps{{Check: &api.CheckTxnOp{Verb: api.CheckSet, Check: api.HealthCheck{
		Node: node, CheckID: in.ID, Name: check.Name, Notes: check.Notes, Status: check.Status, Output: in.Notes,
		Type: typeTTL, ServiceID: in.ID, ServiceName: in.Name, ServiceTags: in.Tags,
	}}}}
	if kind == registration.SetHealth {
		return ops, nil
	}
	svc := &api.ServiceTxnOp{Verb: api.ServiceSet, Node: node, Service: consul.ServiceOf(in)}
	return append(api.TxnOps{{Service: svc}}, ops...), nil
}
