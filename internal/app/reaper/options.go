package reaper

import (
	"net"
	"time"

	"fairway.dev/fairway/internal/app/process"
)

// Options of a reaper process.
type Options struct {
	process.ConsulOptions
	process.LogOptions

	Listen string // host:port of /metrics, /healthz and /readyz
	// AgentPort is that of the clusters' agents, at the addresses of their nodes.
	AgentPort int
	// DeadAfter is how long nothing must have been heard of a cluster.
	DeadAfter time.Duration
	// AnswerWithin is how long an answer in Consul may take.
	AnswerWithin time.Duration

	Version string // of this program
}

// leastAnswer leaves an agent time to find another server when its own has failed,
// and Consul to elect a leader.
const leastAnswer = 15 * time.Second

// lookEvery is how often all clusters are looked at: 2 s or more, since a look at a
// cluster that does not answer at its ports takes as long.
func (o Options) lookEvery() time.Duration { return min(10*time.Second, o.AnswerWithin*2/15) }

// Default returns the options of a reaper that nobody has configured.
func Default() Options {
	return Options{
		ConsulOptions: process.DefaultConsul(),
		LogOptions:    process.DefaultLog(),
		Listen:        ":9983",
		AgentPort:     9980,
		DeadAfter:     5 * time.Minute,
		AnswerWithin:  150 * time.Second,
	}
}

// Validate names everything that is wrong.
func (o Options) Validate() error {
	var c process.Check
	c.All(o.ConsulOptions.Validate(), o.LogOptions.Validate())
	_, _, err := net.SplitHostPort(o.Listen)
	c.That(err == nil, "--listen %q: must be host:port or :port", o.Listen)
	c.That(o.AgentPort > 0 && o.AgentPort < 1<<16, "--agent-port %d: must be a port", o.AgentPort)
	c.That(o.AnswerWithin >= leastAnswer, "--answer-within %s: must be %s or more", o.AnswerWithin, leastAnswer)
	c.That(o.DeadAfter >= 2*o.AnswerWithin, "--dead-after %s: must be twice --answer-within (%s) or more", o.DeadAfter, o.AnswerWithin)
	return c.Err()
}
