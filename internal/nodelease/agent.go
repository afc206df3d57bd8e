package nodelease

import (
	"time"

	"fairway.dev/fairway/internal/service"
)

// readEvery is how often Consul must have been read at least while a question
// stands: what was not seen may have kept the agent from answering too.
const readEvery = 5 * time.Second

// Agent is what was heard of a node's agent since the node came into doubt. The
// zero value has heard nothing. It is a value: its methods return the next one.
type Agent struct {
	// Unanswered is how many times in a row it has not answered at its port.
	Unanswered int
	// Heard is when it last answered; zero if it has not. InConsul is true if
	// that was in Consul.
	Heard    time.Time
	InConsul bool
	// Asked is since when a question stands in Consul, and Consul could be read;
	// zero if none does.
	Asked time.Time

	index uint64    // of the lease when it was last read
	read  time.Time // when that was
}

// Probed takes in whether the agent answered at its port.
func (a Agent) Probed(answered bool, now time.Time) Agent {
	if !answered {
		a.Unanswered++
		return a
	}
	a.Unanswered, a.Heard, a.InConsul = 0, now, false
	return a
}

// Read takes in the lease as it is held at now. Only the agent makes it passing,
// and only the agent takes a question back.
func (a Agent) Read(lease Lease, now time.Time) Agent {
	written := a.index != 0 && lease.Index != a.index
	switch {
	case !lease.Asked:
		if written && lease.Status == service.Passing {
			a.Heard, a.InConsul = now, true
		}
		a.Asked = time.Time{}
	case a.Asked.IsZero() || written || now.Sub(a.read) > readEvery:
		a.Asked = now
	}
	a.index, a.read = lease.Index, now
	return a
}

// Unread takes in that Consul could not be read. The agent may have been as
// unable to write to it: its time to answer begins anew.
func (a Agent) Unread() Agent {
	a.Asked = time.Time{}
	return a
}
