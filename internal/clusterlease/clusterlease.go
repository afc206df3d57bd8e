// Package clusterlease decides when a whole Kubernetes cluster is dead, so that what
// Fairway has published of it must be hidden from clients. It is pure.
//
// A node that dies is noticed by its cluster's controller. When all of the cluster
// dies, nobody is left to say so, and what it has published would pass for ever. So
// somebody beside Consul looks, who knows no Kubernetes. A cluster lives if anything
// of it is heard:
//
//   - one of its agents answers at its port,
//   - or a question that was put into Consul, on the lease of a virtual node, is taken
//     back, or a lease is written by anybody but who looks.
//
// Only if for long there was none of that, and a question has stood unanswered on
// every lease, it is dead. While Consul could not be read nothing is known: that time
// does not count, since the cluster may have been as unable to speak (I1).
package clusterlease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/service"
)

// Question begins the text of every question that is put by who looks for dead
// clusters, and Verdict that of every lease that is expired by it.
const (
	Question = "Fairway's reaper asks whether the cluster lives: "
	Verdict  = "Fairway's reaper: "
)

// Lease is that of one virtual node, as read.
type Lease struct {
	Name   string // of the virtual Consul node
	Status service.Health
	// Says is the output of the check: a question if it passes, why if it does not.
	Says string
	// Index changes with every write; 0 if there is no lease.
	Index uint64
}

// ours tells whether it was written last by who looks for dead clusters.
func (l Lease) ours() bool {
	return strings.HasPrefix(l.Says, Question) || strings.HasPrefix(l.Says, Verdict)
}

func (l Lease) expired() bool { return l.Status == service.Critical }

// Input is everything Decide looks at.
type Input struct {
	Now time.Time
	// Every is how often it is looked.
	Every time.Duration
	// DeadAfter is how long nothing must have been heard.
	DeadAfter time.Duration
	// AnswerWithin is how long the answer to a question in Consul may take. An agent
	// needs well under a second; what keeps the nodes of Services looks at each of
	// them now and then.
	AnswerWithin time.Duration
	// Leases are all of the cluster's, by a complete and consistent answer.
	Leases []Lease
	// Answered tells whether an agent has answered at its port.
	Answered bool
}

// askAfter is how long nothing must have been heard of a cluster before it is asked
// in Consul: each question is a write, and so is the answer. The first question is to
// one node; each askMore as many are asked again as have been. So there is time for
// answers before it is dead.
func (in Input) askAfter() time.Duration { return in.DeadAfter / 5 }
func (in Input) askMore() time.Duration  { return in.DeadAfter / 15 }

// Memory is what one look must know of those before it. The zero value has seen
// nothing; to lose it makes a cluster live longer.
type Memory struct {
	looked time.Time
	silent time.Duration // that was looked at
	leases map[string]Lease
	asked  map[string]time.Time // since when a question is seen to stand
}

// Blind takes in that Consul could not be read: what was asked is asked anew.
func (m Memory) Blind() Memory {
	m.looked, m.asked = time.Time{}, nil
	return m
}

// State says in one word how a cluster stands.
type State string

// The states.
const (
	Alive   State = "Alive"   // something of it was heard
	Silent  State = "Silent"  // nothing was, for not so long
	Asked   State = "Asked"   // it is asked in Consul
	Dead    State = "Dead"    // nothing answers: its leases are expired now
	Expired State = "Expired" // they have expired
)

// States are all of them.
func States() []State { return []State{Alive, Silent, Asked, Dead, Expired} }

// Decision is what is to be done about a cluster, and why.
type Decision struct {
	State State
	Says  string // in words, with the figures
	// Ask and Expire name the leases on which a question is to be put, and those that
	// are to be turned critical.
	Ask, Expire []string
}

// Decide looks at a cluster.
func Decide(in Input, m Memory) (Decision, Memory) {
	next := Memory{looked: in.Now, silent: m.silent, leases: make(map[string]Lease, len(in.Leases)), asked: map[string]time.Time{}}
	if gap := in.Now.Sub(m.looked); !m.looked.IsZero() && gap <= 2*in.Every {
		next.silent += gap
	}
	says := in.sign(m)
	if says != "" {
		next.silent = 0
	}
	var open, expired []string // names
	for _, lease := range in.Leases {
		next.leases[lease.Name] = lease
		switch {
		case lease.expired():
			expired = append(expired, lease.Name)
		default:
			open = append(open, lease.Name)
			if strings.HasPrefix(lease.Says, Question) {
				next.asked[lease.Name] = in.Now
				if since, ok := m.asked[lease.Name]; ok && m.leases[lease.Name].Index == lease.Index {
					next.asked[lease.Name] = since
				}
			}
		}
	}
	slices.Sort(open)
	return in.decide(says, open, expired, next), next
}

// sign says what was heard of the cluster since the last look; nothing if nothing was.
func (in Input) sign(m Memory) string {
	if in.Answered {
		return "an agent answers at its port"
	}
	for _, lease := range in.Leases {
		before, known := m.leases[lease.Name]
		switch {
		case m.leases == nil || known && before.Index == lease.Index || lease.ours():
		case !known:
			return lease.Name + " is new"
		default:
			return lease.Name + " was written"
		}
	}
	return ""
}

func (in Input) decide(sign string, open, expired []string, m Memory) Decision {
	silent := fmt.Sprintf("nothing was heard of it for %s", m.silent.Round(time.Second))
	switch {
	case len(open) == 0 && len(expired) > 0:
		return Decision{State: Expired, Says: "all its leases have expired; its agents renew them when they are back"}
	case m.silent == 0 && sign == "":
		return Decision{State: Alive, Says: "it was not looked at before"}
	case m.silent == 0:
		return Decision{State: Alive, Says: sign}
	case m.silent < in.askAfter():
		return Decision{State: Silent, Says: silent}
	}
	unanswered := 0
	for _, name := range open {
		if since, asked := m.asked[name]; asked && in.Now.Sub(since) >= in.AnswerWithin {
			unanswered++
		}
	}
	if unanswered == len(open) && m.silent >= in.DeadAfter {
		return Decision{State: Dead, Says: fmt.Sprintf("%s, and none of %d questions in Consul was answered", silent, len(open)), Expire: open}
	}
	d := Decision{State: Asked, Says: silent}
	doublings := int((m.silent - in.askAfter()) / in.askMore())
	most := len(open)
	if doublings < 20 {
		most = min(most, 1<<doublings)
	}
	for _, name := range open[:most] {
		if _, asked := m.asked[name]; !asked {
			d.Ask = append(d.Ask, name)
		}
	}
	return d
}
