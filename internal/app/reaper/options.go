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

	Version string // of this program
}

// Default returns the options of a reaper that nobody has configured.
func Default() Options {
	return Options{
		ConsulOptions: process.DefaultConsul(),
		LogOptions:    process.DefaultLog(),
		Listen:        ":9983",
		AgentPort:     9980,
		DeadAfter:     5 * time.Minute,
	}
}

// Validate names everything that is wrong.
func (o Options) Validate() error {
	var c process.Check
	c.All(o.ConsulOptions.Validate(), o.LogOptions.Validate())
	_, _, err := net.SplitHostPort(o.Listen)
	c.That(err == nil, "--listen %q: must be host:port or :port", o.Listen)
	c.That(o.AgentPort > 0 && o.AgentPort < 1<<16, "--agent-port %d: must be a port", o.AgentPort)
	c.That(o.DeadAfter >= time.Minute, "--dead-after %s: must be 1m or more", o.DeadAfter)
	return c.Err()
}
