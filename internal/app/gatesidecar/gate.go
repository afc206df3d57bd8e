// Package gatesidecar is the process beside an app that asks the node's agent
// about its own pod: whether clients are given it, and, when it is to stop,
// whether they are given it no longer.
package gatesidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// answerWithin is what a /drain that has its outcome gets to be answered when
// the process stops.
const answerWithin = 2 * time.Second

// Gate is one fairway-gate process.
type Gate struct {
	// Listening is called with the address of the HTTP server.
	Listening func(net.Addr)

	opts Options
	log  *slog.Logger

	agent *agent
	// asked is closed by the first question for readiness: a sidecar that
	// nobody asks need not ask the agent either.
	asked     chan struct{}
	firstAsk  sync.Once
	reachable atomic.Pointer[outcome]

	draining singleflight.Group        // of one drain at a time
	hooked   atomic.Pointer[time.Time] // when /drain was answered last
}

// outcome is what a call has brought, or what it waits for.
type outcome struct {
	done bool
	text string
}

// New makes a Gate. It contacts nobody.
func New(opts Options, log *slog.Logger) *Gate {
	return &Gate{opts: opts, log: log, Listening: func(net.Addr) {}, asked: make(chan struct{})}
}

// Run serves until ctx ends, and then until the pod is confirmed out of service
// or the drain's time is over: as a container of a pod it is asked to stop
// together with the app, whose preStop hook may be waiting for it.
func (g *Gate) Run(ctx context.Context) error {
	agent, err := dial(g.opts.Agent, g.opts.TokenFile)
	if err != nil {
		return err
	}
	defer agent.close()
	g.agent = agent

	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", g.opts.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", g.opts.Listen, err)
	}
	g.Listening(listener.Addr())
	g.log.Info("serving", "listen", listener.Addr().String(), "agent", g.opts.Agent)

	life, end := context.WithCancel(context.WithoutCancel(ctx)) // of the process, which outlasts ctx
	defer end()
	server := &http.Server{Handler: g.handler(life), ReadHeaderTimeout: 5 * time.Second}
	var group errgroup.Group
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			end()
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		g.watchReachable(life)
		return nil
	})
	group.Go(func() error {
		defer end()
		select {
		case <-ctx.Done():
		case <-life.Done():
			return nil
		}
		g.log.Info("asked to stop; waiting until the pod is out of service")
		g.drain(life)
		if at := g.hooked.Load(); at == nil || time.Since(*at) > g.opts.DrainTimeout {
			// All containers of a pod are asked to stop together, and the app's
			// hook may come a little later than our own signal.
			wait(life, g.opts.Settle)
		}
		ctx, cancel := context.WithTimeout(life, g.opts.Settle+answerWithin)
		defer cancel()
		return server.Shutdown(ctx)
	})
	return group.Wait()
}

// handler serves what kubelets ask. Answers that say no say why.
func (g *Gate) handler(life context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, outcome{done: true, text: "ok"}) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		g.firstAsk.Do(func() { close(g.asked) })
		if o := g.reachable.Load(); o != nil {
			answer(w, *o)
			return
		}
		answer(w, outcome{text: "asking the node's agent"})
	})
	mux.HandleFunc("GET /drain", func(w http.ResponseWriter, r *http.Request) {
		// The drain belongs to the process: a kubelet that hangs up does not
		// end it, and a second request joins it.
		o := g.drain(life)
		if o.done {
			wait(r.Context(), g.opts.Settle)
		}
		answer(w, o)
		g.hooked.Store(new(time.Now()))
	})
	return mux
}

func answer(w http.ResponseWriter, o outcome) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !o.done {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprintln(w, o.text)
}

// watchReachable asks the agent until it says that clients are given the pod.
// What it says once holds: the gate never closes again (I3).
func (g *Gate) watchReachable(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-g.asked:
	}
	g.agent.until(ctx, g.agent.reachable, func(o outcome) {
		g.reachable.Store(&o)
		g.log.Info("readiness", "reachable", o.done, "detail", o.text)
	})
}

// drain takes the pod out of service and returns when that is confirmed, or
// the time is over. Calls at the same time are one.
func (g *Gate) drain(ctx context.Context) outcome {
	result, _, _ := g.draining.Do("drain", func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, g.opts.DrainTimeout)
		defer cancel()
		start := time.Now()
		last := outcome{text: "the node's agent has not answered yet"}
		g.agent.until(ctx, g.agent.drain, func(o outcome) {
			last = o
			g.log.Info("drain", "out", o.done, "detail", o.text)
		})
		if !last.done {
			last.text = fmt.Sprintf("not confirmed out of service within %s: %s", g.opts.DrainTimeout, last.text)
			g.log.Warn("drain was not confirmed", "detail", last.text)
			return last, nil
		}
		g.log.Info("out of service", "took", time.Since(start).Round(time.Millisecond).String())
		return last, nil
	})
	return result.(outcome)
}

// wait waits, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
