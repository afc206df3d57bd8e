package controller

import (
	"context"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/kube/services"
	"fairway.dev/fairway/internal/registration"
)

// serviceSource is the cluster's Services as the API server shows them.
type serviceSource interface {
	Run(ctx context.Context) error
	Changed() <-chan struct{}
	// Changes returns the Services that were touched since the last call; any other
	// may be, too, if all is true. A View after it shows what it has told of.
	Changes() (touched []export.Object, all bool)
	View() services.View
	// Ask takes up export.Plan.Ask, and Confirm export.Plan.Confirm. What Ask finds
	// out shows in the View. An error means that it could not be found out.
	Ask(ctx context.Context, object export.Object) error
	Confirm(ctx context.Context, service export.Object) (same bool, err error)
	// Forget drops proofs that nobody needs.
	Forget(keep func(export.Object) bool)
}

// shardRegistry holds the entries of one shard.
type shardRegistry interface {
	// Refresh returns the entries, unless they are as it returned them last, but for
	// what was applied since: then changed is false. An error means that they are
	// unknown, never that there are none.
	Refresh(ctx context.Context) (entries []registration.Entry, changed bool, err error)
	// Apply carries out one op. It is called at the same time for different
	// entries, but not during Refresh.
	Apply(ctx context.Context, op registration.Op) error
	// Renew puts right what is not the entries' own.
	Renew(ctx context.Context, entries []registration.Entry) error
	// MostWrites bounds the calls of Apply at the same time.
	MostWrites() int
}

// serviceEvents tells people of a Service.
type serviceEvents interface {
	Note(service export.Object, uid, reason, message string)
	Warn(service export.Object, uid, reason, message string)
}

// permission is where a person lets removals pass: the value of the annotation,
// empty if there is none.
type permission interface {
	allowance(ctx context.Context) (string, error)
}
