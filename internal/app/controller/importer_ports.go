package controller

import (
	"context"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/kube/imports"
)

// importSource is the ConsulImports and what there is in their namespaces, as the
// API server shows them, and the way to write it.
type importSource interface {
	Changed() <-chan struct{}
	View() imports.View
	// Apply fails with imports.ErrConflict, an *imports.Refused, or because it could
	// not be found out whether the op was done.
	Apply(ctx context.Context, op consulimport.Op) error
	// Tell writes a status that does not say so already.
	Tell(ctx context.Context, view imports.View, status consulimport.Status) (wrote bool, err error)
}

// consulServices is what Consul says of services.
type consulServices interface {
	Changed() <-chan struct{}
	View() (map[consulimport.Where]consulimport.Listing, map[consulimport.Origin]consulimport.Answer)
	// Follow says what is asked from now on; nothing else is.
	Follow(listings []consulimport.Where, answers []consulimport.Origin, again []consulimport.Question)
}
