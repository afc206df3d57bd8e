// Package annotation turns the annotations of a pod into the instances that
// the pod declares, or into errors that name the annotation, its value and
// what is wrong with it. It is pure.
//
// # Annotations
//
//	fairway.dev/service-names   names of the services, separated by commas; its presence opts the pod in
//	fairway.dev/service-port    a number, or the name of a container port; default: the first TCP container port
//	fairway.dev/service-tags    tags, separated by commas
//	fairway.dev/service-meta    key:value pairs, separated by commas; a value may contain ':'
//
// The last three hold for all services of the pod. With "-NAME" appended, as in
// fairway.dev/service-port-web, one holds for that service only, and replaces
// what all share; nothing is merged.
//
// # Dialects
//
// The same keys are understood under katalog-sync.wish.com/. The native
// dialect wins as a whole: if fairway.dev/service-names is present, katalog's
// annotations are ignored. Under katalog's prefix keys that are not in the list
// above are ignored too, as katalog-sync does; support for its service-health,
// sidecar, sync-interval, service-check-ttl and container-exclude is to come.
// Under Fairway's own prefix an unknown service-* key is an error, because it
// is most likely a typo.
//
// # Strictness
//
// Values are trimmed and then taken literally or refused; nothing is guessed.
// One mistake is one [Error], and it hurts only what depends on it: services
// that can be fully understood are in Result.Instances beside any Errors.
package annotation

import "fairway.dev/fairway/internal/service"

// The prefixes of the dialects.
const (
	Native  = "fairway.dev/"
	Katalog = "katalog-sync.wish.com/"
)

// Names is the annotation that opts a pod in, without its prefix.
const Names = "service-names"

// Error is one thing that is wrong with a pod's annotations. It is a finding
// about the user's text, not a failure of ours, hence not an error value.
type Error struct {
	Key   string // full annotation key
	Value string // as the user wrote it; empty if the annotation is missing
	// Service is the one service that the annotation or list item is about,
	// which need not be a declared one. It is empty for an annotation that all
	// services share; such an error makes those services unusable that have no
	// override of their own. Which are usable is told by Result.Instances.
	Service string
	Problem string // what is wrong and what would be right
}

// String is the error as a person should read it.
func (e Error) String() string { return e.Key + ": " + e.Problem }

// Result is what a pod declares.
type Result struct {
	// Declared is true if the pod asks to be published at all. Errors may be
	// there without it: a misspelled service-names is one.
	Declared bool
	// Services are the names declared that could be understood, in order.
	Services []string
	// Instances are the services that could be fully understood, in the order
	// of Services. They have no Health yet, and no cluster or node in their
	// Meta: package registration adds those. None before the pod has an
	// address.
	Instances []service.Instance
	// Errors are in a stable order: by key, then as they stand in the value.
	Errors []Error
}
