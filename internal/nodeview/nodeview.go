// Package nodeview is what a node's agent tells people of itself: where its
// pods come from, what its registry holds, what it would write there and why,
// what the servers last said, and which pods it has been asked to take out. The
// agent serves it as JSON, the command fairway reads it. It is pure.
//
// Whoever reaches the agent's HTTP port can read it. So it names pods, services,
// addresses and reasons, as Consul's catalog does, and never a token, a tag or
// the value of an annotation (I8).
package nodeview

import (
	"slices"
	"time"

	"fairway.dev/fairway/internal/service"
)

// Path is where an agent serves its View.
const Path = "/v1/view"

// The headers of every answer of an agent, by which who asks knows that it is
// the agent of that node and no other that answers at the address.
const (
	HeaderCluster = "Fairway-Cluster"
	HeaderNode    = "Fairway-Node"
)

// View is one agent's view of its node, as of one moment.
type View struct {
	Version  string    `json:"version"`
	Node     string    `json:"node"`
	Cluster  string    `json:"cluster"`
	Registry string    `json:"registry"` // agent or catalog
	At       time.Time `json:"at"`
	// Blocked is why nothing can be published; empty if it can.
	Blocked string   `json:"blocked,omitempty"`
	Sources []Source `json:"sources"`
	Pods    []Pod    `json:"pods"`
	Entries []Entry  `json:"entries"`
	Plan    Plan     `json:"plan"`
	Servers Servers  `json:"servers"`
	Drains  []Drain  `json:"drains"`
	// Succession is nil unless the agent was told how to stand to katalog-sync.
	Succession *Succession `json:"succession,omitempty"`
}

// Source is somewhere that pods come from.
type Source struct {
	Name string `json:"name"`
	Pods int    `json:"pods"`
	// Synced tells whether it has given a complete list.
	Synced bool `json:"synced"`
	// Problem is why it does not answer; empty if it does.
	Problem string `json:"problem,omitempty"`
	// Heard is when it last said anything; zero if never.
	Heard time.Time `json:"heard,omitzero"`
}

// PodRef names one life of a pod.
type PodRef struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// Ref is the name in JSON's words.
func Ref(pod service.PodRef) PodRef { return PodRef(pod) }

// String is "namespace/name".
func (r PodRef) String() string { return service.PodRef(r).String() }

// Pod is a pod that publishes a service, or would.
type Pod struct {
	Pod    PodRef         `json:"pod"`
	Health service.Health `json:"health"`
	Notes  string         `json:"notes"` // why it has that health
	// Incomplete is true if an annotation could not be understood or the pod has
	// no address yet: what it has registered stays.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Entry is what the registry holds of one service of one pod.
type Entry struct {
	ID      string         `json:"id"`
	Service string         `json:"service"`
	Pod     PodRef         `json:"pod"`
	Address string         `json:"address,omitempty"`
	Port    uint16         `json:"port,omitempty"`
	Health  service.Health `json:"health,omitempty"` // empty: it has no check of ours
}

// Plan is what the agent would write now, as of its last look.
type Plan struct {
	// Decided is when; zero if nothing could be decided yet.
	Decided time.Time `json:"decided,omitzero"`
	Writes  []Write   `json:"writes"`
	// Frozen are entries that were to be removed with too many others at once.
	Frozen []Kept `json:"frozen"`
	// Held are entries whose pods are neither there nor proven gone, Replaced
	// those that stay until others of their pods are in service.
	Held     []Kept `json:"held"`
	Replaced []Kept `json:"replaced"`
	// Refused are entries that the registry does not take.
	Refused []Refused `json:"refused"`
	// Foreign counts entries of others, which are not touched.
	Foreign int `json:"foreign"`
}

// Empty tells whether there is nothing to do, and nothing that waits.
func (p Plan) Empty() bool {
	return len(p.Writes)+len(p.Frozen)+len(p.Held)+len(p.Replaced)+len(p.Refused) == 0
}

// Write is one write that is to be made, and how it stands.
type Write struct {
	Kind   string `json:"kind"` // register, set-health or deregister
	Entry  Entry  `json:"entry"`
	Reason string `json:"reason"`
	// Underway is true while the registry is being told.
	Underway bool `json:"underway,omitempty"`
	// Failed is why the last try failed; it was the Tries-th in a row, and the
	// next comes at Next.
	Failed string    `json:"failed,omitempty"`
	Tries  int       `json:"tries,omitempty"`
	Next   time.Time `json:"next,omitzero"`
}

// Kept is an entry that stays although no pod asks for it.
type Kept struct {
	Entry  Entry  `json:"entry"`
	Reason string `json:"reason"`
}

// Refused is an entry that the registry does not take, and why.
type Refused struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// Servers is what the Consul servers last said of the node's entries. It tells
// of the entries' own checks alone: a node that is taken for dead hides them all.
type Servers struct {
	// At is when they last answered; zero if never. Afterwards a change would
	// have been heard of, unless Problem says that they cannot be asked.
	At      time.Time `json:"at,omitzero"`
	Problem string    `json:"problem,omitempty"`
	// Health is by the ID of the entry.
	Health map[string]service.Health `json:"health"`
}

// Drain is a pod that has asked to be taken out of service.
type Drain struct {
	Pod   PodRef    `json:"pod"`
	Asked time.Time `json:"asked"`
	// Out is true once the servers were proven to give it to clients no longer.
	Out bool `json:"out,omitempty"`
	// Reason and Message say what is waited for, Since when, Until when at most.
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"`
	// Ended says how the last call ended that is over; empty while one waits.
	Ended string `json:"ended,omitempty"`
}

// Succession is how far katalog-sync and Fairway have taken each other's place.
type Succession struct {
	Mode string `json:"mode"` // take-over or hand-back
	// At is when it was last looked at; zero if it could not be yet, for Problem.
	At      time.Time `json:"at,omitzero"`
	Problem string    `json:"problem,omitempty"`
	// Entries are katalog-sync's, or those of ours that are to be handed back.
	Entries []Handover `json:"entries"`
}

// Handover is how one entry stands, and why.
type Handover struct {
	ID      string    `json:"id"`
	Service string    `json:"service"`
	Pod     PodRef    `json:"pod"` // without UID if the entry is katalog-sync's
	State   string    `json:"state"`
	Reason  string    `json:"reason"`
	Since   time.Time `json:"since"`
}

// Pod is what the agent knows of a life of a pod.
func (v View) Pod(uid string) (Pod, bool) {
	i := slices.IndexFunc(v.Pods, func(p Pod) bool { return p.Pod.UID == uid })
	if i < 0 {
		return Pod{}, false
	}
	return v.Pods[i], true
}
