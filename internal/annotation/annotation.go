// Package annotation turns the annotations of a pod into the instances that
// the pod declares, and those of a Kubernetes Service into what it asks for, or
// into errors that name the annotation, its value and what is wrong with it. It is
// pure.
//
// # Annotations of pods
//
//	fairway.dev/service-names      names of the services, separated by commas; its presence opts the pod in
//	fairway.dev/service-port       a number, or the name of a container port; more named ports after it, separated by commas
//	fairway.dev/service-tags       tags, separated by commas
//	fairway.dev/service-meta       key:value pairs, separated by commas; a value may contain ':'
//	fairway.dev/service-health     passing, warning or critical, whatever the pod's readiness says
//	fairway.dev/service-weights    passing:N, warning:N or both
//	fairway.dev/service-check-ttl  a Go duration: how long the pod's entries outlive a Fairway that is gone
//	fairway.dev/container-exclude  containers that do not count for the pod's health, separated by commas
//	fairway.dev/sidecar            the container that waits until the pod is registered, and so does not count either
//
// Port, tags, meta, health and weights hold for all services of the pod. With
// "-NAME" appended, as in fairway.dev/service-port-web, one holds for that
// service only, and replaces what all share; nothing is merged. The last three
// are about the pod and have no such form.
//
// # Dialects
//
// The same keys are understood under katalog-sync.wish.com/, and
// serivce-health-NAME, as its documentation has it. The native dialect wins as a
// whole: if fairway.dev/service-names is present, katalog's annotations are
// ignored. Under katalog's prefix sync-interval is checked as katalog-sync does
// and has no effect, a short service-check-ttl is raised to [MinCheckTTL], and
// other keys are ignored. Under Fairway's own prefix an unknown service-* key is
// an error, because it is most likely a typo.
//
// # Annotations of Services
//
//	fairway.dev/service-sync      true or false: whether the Service is published
//	fairway.dev/service-name      the service name
//	fairway.dev/service-port      a port of the Service by name or number; more after it, by name
//	fairway.dev/service-address   endpoints, vip, node, load-balancer or hostname
//	fairway.dev/service-draining  critical or warning, while an endpoint terminates and still serves
//
// Tags, meta, weights and health are as on pods, for the one service that a Service
// is. The six keys of Consul's catalog sync are understood under
// consul.hashicorp.com/, and mean what they mean to it; see [ParseService].
//
// # Strictness
//
// Values are trimmed and then taken literally or refused; nothing is guessed.
// One mistake is one [Error], and it hurts only what depends on it: services
// that can be fully understood are in Result.Instances beside any Errors.
package annotation

import (
	"time"

	"fairway.dev/fairway/internal/service"
)

// The prefixes of the dialects.
const (
	Native  = "fairway.dev/"
	Katalog = "katalog-sync.wish.com/"
)

// Names is the annotation that opts a pod in, without its prefix.
const Names = "service-names"

// MinCheckTTL is the shortest dead-man that a pod can ask for: what katalog-sync
// users have by default. Fairway renews it every third of that.
const MinCheckTTL = 10 * time.Second

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
	// of Services. They have no Health yet, no cluster or node in their Meta, and
	// no CheckTTL that was not asked for: package registration adds those. None
	// before the pod has an address.
	Instances []service.Instance
	// Fixed are the healths that do not follow the pod.
	Fixed Fixed
	// Excluded are the containers that do not count for the pod's health.
	Excluded []string
	// Errors are in a stable order: by key, then as they stand in the value.
	Errors []Error
}

// Fixed holds, by service, the health that an annotation gives it while the pod
// runs; under the empty name that of all services that have none of their own.
// It is empty if the annotation could not be understood.
type Fixed map[string]service.Health

// For returns the fixed health of a service, and whether there is one.
func (f Fixed) For(name string) (service.Health, bool) {
	if health, ok := f[name]; ok {
		return health, true
	}
	health, ok := f[""]
	return health, ok
}
