// Package nodelease decides when a Kubernetes node is dead, so that the entries
// under its virtual Consul node must be hidden from clients, and when that
// virtual node can be removed for good. It is pure.
//
// A node is dead when three witnesses agree, that have little in common:
//
//  1. its kubelet has not renewed its Lease for as long as that promises
//     (leaseDurationSeconds); or somebody who knows says so: the Node has the taint
//     out-of-service, or was deleted, and the API server was asked for it;
//  2. its agent does not answer at its port, several times in a row;
//  3. its agent does not answer a question that is put to it in Consul, on the
//     lease itself, which an agent that lives and reaches Consul answers at once.
//
// So a dead kubelet takes nothing out of service, since its pods go on serving
// (I2); nor does an agent that is away; nor a wall between the controller and a
// node whose clients and Consul still reach it. Only what none of them has heard
// of any more is hidden.
//
// How long a kubelet has been silent is measured by the clock of the controller,
// from when it saw the last renewal: clocks of different machines are not
// compared. And only time counts in which something was heard of other kubelets
// too, see [Kubelets]: while the API server or the controller is away, nobody
// grows older. If more nodes than a share look dead at once, that says more of
// who looks than of them, and nothing is done (I1).
package nodelease

import (
	"time"

	"fairway.dev/fairway/internal/service"
)

const (
	// promise is how long a kubelet's Lease is good for if it does not say.
	promise = 40 * time.Second
	// patience is how many times in a row an agent must not have answered at its
	// port to be called silent.
	patience = 3
	// answerWithin is how long an agent may take to answer in Consul. It does so
	// in well under a second if it can.
	answerWithin = 10 * time.Second
	// askAgain is how long an answer in Consul is believed, of an agent that does
	// not answer at its port: each question is a write.
	askAgain = time.Minute
	// lookAgain is how long nothing need be looked at if nothing happens.
	lookAgain = time.Minute
	// doubtEvery is how often a node in doubt is looked at.
	doubtEvery = time.Second
)

// Node is what is known of one node: of the Kubernetes node, its agent, and the
// virtual Consul node that stands for it.
type Node struct {
	Name string
	// Listed is true if the API server lists the Node.
	Listed bool
	// Deleted is since when it has been proven that the API server has no such
	// Node; zero if it is not.
	Deleted time.Time
	// Unasked says why the API server could not be asked for a Node that it does
	// not list; empty if it was asked, or was not yet.
	Unasked string
	// OutOfService is true if the Node has the taint
	// node.kubernetes.io/out-of-service: a person, or who acts for one, has made
	// sure that it is off.
	OutOfService bool
	// Lost is true if the control plane says that it has not heard of the kubelet.
	// It counts only for a kubelet without Lease.
	Lost bool
	// Kubelet is its last sign of life.
	Kubelet Kubelet
	// Agent is what was heard of the agent since the node came into doubt.
	Agent Agent
	// Lease is the virtual node's.
	Lease Lease
}

// Kubelet is the last sign of life of a kubelet.
type Kubelet struct {
	// Heard is when its Lease was last seen renewed, or first seen at all; zero
	// if it has none.
	Heard time.Time
	// Promise is how long each renewal is good for.
	Promise time.Duration
}

// Lease is the lease of a virtual node as the servers hold it.
type Lease struct {
	// Held is false if there is no virtual node with a lease: nothing of the node
	// was ever published.
	Held   bool
	Status service.Health
	// Asked is true if a question stands on it that the agent has not answered.
	Asked bool
	// Index changes with every write of the lease.
	Index uint64
}

// Act is what is to be done about a node.
type Act string

// The acts, from the gentlest to the last.
const (
	Nothing Act = ""
	// Confirm: ask the API server whether there is such a Node.
	Confirm Act = "confirm"
	// Listen: the node is in doubt. Ask its agent at its port, and read its lease.
	Listen Act = "listen"
	// Ask: put the question to the agent in Consul. The node stays in doubt.
	Ask Act = "ask"
	// Expire: turn the lease critical.
	Expire Act = "expire"
	// Remove: take the virtual node out of Consul, with all that is under it.
	Remove Act = "remove"
)

// Doubtful tells whether the node is to be listened to.
func (a Act) Doubtful() bool { return a == Listen || a == Ask || a == Expire }

// Reason says in one word how a node stands.
type Reason string

// The reasons.
const (
	Alive            Reason = "Alive"            // the kubelet renews its Lease
	Unpublished      Reason = "Unpublished"      // nothing of it is in Consul
	Unknown          Reason = "Unknown"          // not enough is known
	Unobserved       Reason = "Unobserved"       // no kubelet has been heard of lately: the API server or its watch is away
	AgentAnswers     Reason = "AgentAnswers"     // the kubelet is silent and the agent is not
	AgentSilent      Reason = "AgentSilent"      // the agent does not answer at its port, not often enough yet
	WaitingForAnswer Reason = "WaitingForAnswer" // the agent was asked in Consul
	Frozen           Reason = "Frozen"           // it looks dead, and so do too many others
	Dead             Reason = "Dead"             // all witnesses agree
	Expired          Reason = "Expired"          // its lease is critical
	Gone             Reason = "Gone"             // its Node was deleted long ago
)

// Reasons are all of them.
func Reasons() []Reason {
	return []Reason{Alive, Unpublished, Unknown, Unobserved, AgentAnswers, AgentSilent, WaitingForAnswer, Frozen, Dead, Expired, Gone}
}

// Decision is what is to be done about one node, and why.
type Decision struct {
	Node   string
	Act    Act
	Reason Reason
	// Says is the reason in words, with the figures.
	Says string
}
