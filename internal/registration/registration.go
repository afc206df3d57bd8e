// Package registration decides which entries a node should hold in its
// registry and what must be written to get there. It is pure.
//
// What is asked for comes as claims. A node's agent makes one of each pod ([Want]);
// package export makes one of each endpoint of a Kubernetes Service, for entries
// that belong to no node. What is said of pods here holds for those endpoints as
// well. [Decide] compares the claims with what the registry holds. The rules, in
// the order in which they apply to an entry:
//
//  1. An entry of another cluster or node is foreign: never written, only
//     counted (I5). A pod that needs the ID of a foreign entry is refused it.
//  2. What a pod of the node asks for is compared field by field; any
//     difference is written, none means no write (I6).
//  3. An entry leaves if its pod is proven gone or has ended, or if the pod
//     lives, is fully understood and no longer declares the service.
//  4. An entry of a pod that is not fully understood keeps its last good
//     registration and follows the pod's health, or the health that an annotation
//     fixes; if it is that which was not understood, it keeps its health.
//  5. An entry of a pod that is neither there nor proven gone is held as it
//     is: absence from a list is no proof (I1).
//  6. An entry whose pod wants the same service under another ID is kept until
//     the registry holds that one in service.
//  7. An entry that somebody else's stands in the place of leaves, and is not
//     made, although a pod asks for it.
//
// What leaves turns critical first and is removed by a later pass, which must
// have seen it critical in the registry (I4). [Breaker] holds back what would
// leave in a mass because of what is said of its pods. A world at rest is reached in two
// passes, in three if an entry is replaced.
package registration

import (
	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// Entry is one registration as the registry holds it now.
type Entry struct {
	// Instance is as read back; Pod is taken from its Meta.
	Instance service.Instance
	Cluster  string // service.MetaCluster
	Node     string // service.MetaNode
	// HasCheck is false if the registry holds the service without Fairway's
	// check of the same ID, so that its health is not under our control.
	HasCheck bool
	// Lapsed is true if what keeps the entry alive in the registry is not as it
	// should be, whatever the entry's own health says: a renewal puts it right.
	Lapsed bool
}

// InService tells whether clients may be given the entry. Consul takes one
// without a check for passing.
func (e Entry) InService() bool { return !e.HasCheck || e.Instance.Health != service.Critical }

// Claim is what one pod of the node, or one endpoint of a Service, asks for.
type Claim struct {
	Pod service.PodRef
	// Endpoint is set if the claim is that of an endpoint of a Service. Pod is then
	// the one behind it, if there is one.
	Endpoint service.EndpointRef
	Health   service.Health
	Notes    string // why it has that health
	// Fixed are the healths that do not follow the pod, while it runs.
	Fixed annotation.Fixed
	// Ended is true if all containers of the pod have stopped for good.
	Ended bool
	// Terminating is true if the pod is about to end: its entries stay until it
	// is gone, but no new one is made.
	Terminating bool
	// Instances are complete, with Health set.
	Instances []service.Instance
	// Withdrawn is why there are fewer instances than there may have been, if more
	// is known than that nobody asks for them.
	Withdrawn string
	// Incomplete is true if an annotation could not be understood, or the pod
	// has no address yet: entries of this pod that Instances does not list keep
	// their last good registration and follow Health.
	Incomplete bool
}

// Owner is the key of whose claim it is, as service.Instance.Owner has it.
func (c Claim) Owner() string {
	return service.Instance{Endpoint: c.Endpoint, Pod: c.Pod}.Owner()
}

// Input is everything Decide looks at.
type Input struct {
	Cluster string // own cluster id
	Node    string // own Kubernetes node; empty for the entries of Services
	// Claims are those of the pods of this node, each owner once. They must come
	// from a source that is synced. A pod that is missing nevertheless loses
	// nothing but is not published.
	Claims []Claim
	// Entries are all that the registry holds where this node registers, each
	// ID once. They must be a complete answer.
	Entries []Entry
	// Gone holds, by owner, what proves that a pod no longer exists. A pod that is
	// in neither Claims nor Gone is unknown, and its entries stay. A pod that is in
	// both is gone: a UID never comes back, so the list is stale.
	Gone map[string]string
	// Yielded says, by instance ID, why an instance that a pod asks for is not to
	// be registered here: another registrar gives it to clients.
	Yielded map[string]string
}

// Kind says what an Op does.
type Kind string

// The kinds of Op.
const (
	// Register writes the whole entry. It sets the health of a check that the
	// registry did not have; Consul keeps the health of one that it had, and a
	// SetHealth of its own goes with the Register if that must change too.
	Register Kind = "register"
	// SetHealth changes the health of an existing entry, nothing else.
	SetHealth Kind = "set-health"
	// Deregister removes an entry that has left service before.
	Deregister Kind = "deregister"
)

// Op is one write, and why it is made.
type Op struct {
	Kind     Kind
	Instance service.Instance // with the Health that the entry is to have
	Reason   string
	// Leaves is true if the op takes an entry out of service.
	Leaves bool
	// Removal is set if the op takes an entry out of service whose pod has not
	// said itself that it leaves, because of what is said of the pod.
	Removal Removal
}

// Removal says why an entry is taken out of service.
type Removal string

// The kinds of Removal.
const (
	PodGone    Removal = "gone"       // its pod is proven gone
	Undeclared Removal = "undeclared" // its pod does not declare the service any more
)

// Held is an entry that stays although no pod asks for it under that ID, and
// why.
type Held struct {
	Entry  Entry
	Reason string
}

// Plan is what is to be written, the most urgent first: what leaves service,
// then what enters or stays in it, then entries that are not in service, then
// removals; within each by ID.
type Plan struct {
	Ops []Op
	// Held are entries whose pod is neither there nor proven gone.
	Held []Held
	// Replaced are entries that stay until others of their pods are in service.
	Replaced []Held
	// Frozen are removals that wait for more evidence; see [Breaker].
	Frozen []Frozen
	// Foreign counts entries of other clusters and nodes. They are not touched.
	Foreign int
	// Refused says, by instance ID, why an instance cannot be registered: its
	// ID is taken by a foreign entry. It has the form of gate.Input.Refused.
	Refused map[string]string
}
