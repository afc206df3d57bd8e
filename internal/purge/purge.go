// Package purge decides which entries at the Consul servers can be taken out
// because nobody keeps them any more: those of a cluster that is gone, or of a
// registrar that was replaced. It is pure.
//
// Who asks has said which entries are meant. That is no proof that nobody needs
// them (I1). So an entry that clients are given goes only if nobody would miss it:
// another at the same place stands under the same name. What else is in service
// goes only if the person says so in so many words.
package purge

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// Entry is an entry as clients see it.
type Entry struct {
	ConsulNode string `json:"consulNode"`
	ID         string `json:"id"`
	Service    string `json:"service"`
	Address    string `json:"address"` // the node's if it has none of its own
	Port       int    `json:"port"`
	// Health is the worst of all its checks, the node's too.
	Health service.Health `json:"health"`
	// Kubernetes is true if its meta says that it is of a Kubernetes cluster.
	Kubernetes bool `json:"-"`
	// Agent is true if a Consul agent keeps the node: it would register again what
	// is taken out at the servers.
	Agent bool `json:"-"`
}

// given tells whether clients may be given the entry: by DNS they are also given
// what is in state warning.
func (e Entry) given() bool { return e.Health != service.Critical }

// Place is address and port, as clients connect.
func (e Entry) Place() string {
	address := e.Address
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	return address + ":" + strconv.Itoa(e.Port)
}

func (e Entry) compare(other Entry) int {
	return cmp.Or(cmp.Compare(e.ConsulNode, other.ConsulNode), cmp.Compare(e.Service, other.Service), cmp.Compare(e.ID, other.ID))
}

// Input is everything Decide looks at.
type Input struct {
	// Asked are the entries that a person has asked for.
	Asked []Entry
	// Others are all others under the same names.
	Others []Entry
	// InService lets those go too that clients are given and would miss.
	InService bool
}

// Reason says in one word why an entry goes or stays.
type Reason string

// The reasons.
const (
	NotGiven      Reason = "NotGiven"      // goes: no client is given it
	Covered       Reason = "Covered"       // goes: another stands at its place
	Allowed       Reason = "Allowed"       // goes: a person says so
	InService     Reason = "InService"     // stays: clients would miss it
	AgentKeeps    Reason = "AgentKeeps"    // stays: a Consul agent would register it again
	NotKubernetes Reason = "NotKubernetes" // stays: it is of something else
)

// Decision is what is to become of one entry.
type Decision struct {
	Entry  Entry  `json:"entry"`
	Remove bool   `json:"remove"`
	Reason Reason `json:"reason"`
	Says   string `json:"says"` // the reason in words
}

// Decide looks at each entry that was asked for, in order of node, service and ID.
func Decide(in Input) []Decision {
	covers := map[string]Entry{}
	for _, other := range in.Others {
		if key := other.Service + " " + other.Place(); other.Health == service.Passing && (covers[key].ID == "" || other.compare(covers[key]) < 0) {
			covers[key] = other
		}
	}
	decisions := make([]Decision, 0, len(in.Asked))
	for _, e := range slices.SortedFunc(slices.Values(in.Asked), Entry.compare) {
		cover, covered := covers[e.Service+" "+e.Place()]
		d := Decision{Entry: e}
		switch {
		case e.Agent:
			d.Reason, d.Says = AgentKeeps, "the Consul agent of the node keeps it; deregister it there"
		case !e.Kubernetes:
			d.Reason, d.Says = NotKubernetes, "it does not say that it is of a Kubernetes cluster"
		case !e.given():
			d.Remove, d.Reason, d.Says = true, NotGiven, "clients are not given it"
		case covered:
			d.Remove, d.Reason, d.Says = true, Covered, "clients are given the same by "+cover.ConsulNode
		case in.InService:
			d.Remove, d.Reason, d.Says = true, Allowed, fmt.Sprintf("it is %s, and is to go all the same", e.Health)
		default:
			d.Reason, d.Says = InService, fmt.Sprintf("it is %s, and clients would miss it", e.Health)
		}
		decisions = append(decisions, d)
	}
	return decisions
}
