// Package succession decides how Fairway and katalog-sync follow each other on
// a node, in either direction, so that clients are given every instance at every
// moment. It is pure.
//
// Both register a pod's service with the node's Consul agent, each under an ID of
// its own. So the one that comes can stand beside the one that goes, and what is
// decided here is only when an entry is superfluous:
//
//   - [TakeOver]: an entry of katalog-sync may go when nobody renews it any more,
//     and Fairway's entry of the same pod and service is at the servers as it
//     should be; or when its pod is proven gone (I1), as katalog-sync itself would
//     remove it.
//   - [HandBack]: an entry of Fairway may go when katalog-sync renews one of the
//     same pod and service, and the servers give that to clients at least as much
//     as they should be given it.
//
// Neither looks at what the other should do, only at what clients have. Touching
// entries of katalog-sync is not Fairway's business (I5) unless it was told to be
// its successor; what katalog-sync renews of a pod that may be there is left alone
// even then.
package succession

import (
	"fmt"
	"net/netip"
	"strings"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// Mode is how Fairway stands to katalog-sync.
type Mode string

// The modes.
const (
	// Apart: what is katalog-sync's is somebody else's.
	Apart Mode = ""
	// Successor: Fairway takes katalog-sync's place.
	Successor Mode = "take-over"
	// Predecessor: katalog-sync takes Fairway's place.
	Predecessor Mode = "hand-back"
)

// Entry is a registration of katalog-sync, as the node's Consul agent holds it.
type Entry struct {
	ID      string // see EntryID
	Service string
	Pod     service.PodRef // without UID, which katalog-sync does not write
	Address netip.Addr
	Port    uint16         // 0 if it is none that can be reached
	Health  service.Health // empty if the entry has no check of its own
	// Expired is true if nobody has renewed the entry for as long as its TTL.
	Expired bool
}

// MetaSource is the meta key, and Source its value, by which katalog-sync marks
// what is its own.
const (
	MetaSource = "external-sync-source"
	Source     = "katalog-sync"
)

// expired is how Consul's agent begins the output of a TTL check that nobody has
// renewed in time, whatever it was before.
const expired = "TTL expired"

// Expired tells whether a check of katalog-sync's, which are all TTL checks, has
// not been renewed in time.
func Expired(status service.Health, output string) bool {
	return status == service.Critical && strings.HasPrefix(output, expired)
}

// EntryID is the ID that katalog-sync gives to a service of a pod.
func EntryID(name string, pod service.PodRef) string {
	return fmt.Sprintf("katalog-sync_%s_%s_%s", name, pod.Namespace, pod.Name)
}

// Pod is what Fairway knows of a pod.
type Pod struct {
	registration.Claim
	// Waits is true if the pod has a gate that only Fairway opens, and that is
	// not open yet.
	Waits bool
}

// Standing is how the servers hold an entry.
type Standing struct {
	Health  service.Health // with all checks that concern the entry
	Address netip.Addr
	Port    uint16
}

// Servers is an answer of the Consul servers.
type Servers struct {
	// Unknown says why there is no answer; empty if there is one.
	Unknown string
	// Held are the entries of the services that were asked about, by ID.
	Held map[string]Standing
}

// Input is everything that is looked at.
type Input struct {
	Pods    []Pod   // of the node, from a source that is synced
	Theirs  []Entry // all that the node's agent holds of katalog-sync
	Servers Servers
	// Gone says, by pod without UID, what proves that the node has no pod of that
	// name. A pod that is in neither Pods nor Gone is unknown.
	Gone map[service.PodRef]string
	// Yielded are the IDs of Fairway's that were given up before. For them the
	// word of the node's agent is enough: it is the first to see that katalog-sync
	// has stopped.
	Yielded map[string]bool
}

// State is how an entry stands.
type State string

// The states of an entry of katalog-sync.
const (
	// Covered: it is renewed, and Fairway's stands beside it; katalog-sync may stop.
	Covered State = "covered"
	// Uncovered: it is renewed, and clients would lose it with katalog-sync.
	Uncovered State = "uncovered"
	// Waiting: nobody renews it, and it stays until Fairway's is where it should be.
	Waiting State = "waiting"
	// Superfluous: nobody needs it, and nobody renews it or its pod is no more.
	Superfluous State = "superfluous"
)

// The states of an entry of Fairway that is to be handed back.
const (
	// Kept: clients need it.
	Kept State = "kept"
	// Yielded: katalog-sync's stands in its place.
	Yielded State = "yielded"
)

// Verdict is what is to become of one entry, and why.
type Verdict struct {
	ID      string
	Service string
	Pod     service.PodRef
	State   State
	Reason  string // a sentence, for people; it changes only with its cause
	// Asks is true if an answer of the servers could change the state, or led to it.
	Asks bool
	// Unproven is true if proof that the pod is gone would change the state.
	Unproven bool
	// Over is true if the pod has come to its end, whatever keeps the entry alive.
	Over bool
}

// rank orders healths by how much clients are given an instance.
func rank(h service.Health) int {
	switch h {
	case service.Passing:
		return 2
	case service.Warning:
		return 1
	}
	return 0
}
