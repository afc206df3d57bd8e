package gatesidecar

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Options of a fairway-gate process.
type Options struct {
	Agent     string // host:port of the node's agent
	TokenFile string // service-account token with audience fairway, bound to the pod
	Listen    string // host:port of /ready, /drain and /healthz

	DrainTimeout time.Duration // of asking the agent
	Settle       time.Duration // after it has confirmed, before /drain answers
}

// Default returns the options of a process that nobody has configured. The
// node's address is taken from the environment.
func Default() Options {
	o := Options{
		TokenFile:    "/var/run/secrets/fairway/token",
		Listen:       ":9982",
		DrainTimeout: 20 * time.Second,
		Settle:       time.Second,
	}
	if host := os.Getenv("HOST_IP"); host != "" {
		o.Agent = net.JoinHostPort(host, "9981")
	}
	return o
}

// Validate names everything that is wrong.
func (o Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, a := range []struct{ flag, address string }{{"--agent", o.Agent}, {"--listen", o.Listen}} {
		_, _, err := net.SplitHostPort(a.address)
		check(err == nil, "%s %q: must be host:port", a.flag, a.address)
	}
	check(o.Agent != "", "HOST_IP: set it from the pod's status.hostIP, or give --agent")
	check(o.TokenFile != "", "--token-file: required")
	check(o.DrainTimeout > 0, "--drain-timeout %s: must be more than 0", o.DrainTimeout)
	check(o.Settle >= 0, "--settle %s: must not be negative", o.Settle)
	return errors.Join(errs...)
}
