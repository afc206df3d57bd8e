package process

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Probes is what a process tells of itself at its HTTP port: /metrics, /healthz
// and /readyz. Both answers to probes say why when they say no.
//
//   - /healthz fails if a loop does not turn, which a restart may help. It does
//     not fail because Consul or the API server is away, which it does not.
//   - /readyz fails while the process cannot do its work.
type Probes struct {
	Gatherer prometheus.Gatherer
	Pulses   []*Pulse
	// Ready says why the process cannot do its work, nothing if it can, and
	// details for people in any case.
	Ready func(now time.Time) (why, details string)
}

// Handler serves them. It says that the process stops once ctx has ended.
func (p Probes) Handler(ctx context.Context) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		for _, pulse := range p.Pulses {
			if why := pulse.Stuck(time.Now()); why != "" {
				answer(w, why, "")
				return
			}
		}
		answer(w, "", "")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ctx.Err() != nil {
			answer(w, "stopping", "")
			return
		}
		why, details := p.Ready(time.Now())
		answer(w, why, details)
	})
	return mux
}

// answer says ok, or why not, and then the details, if any.
func answer(w http.ResponseWriter, why, details string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if why != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprintln(w, cmp.Or(why, "ok"))
	if details != "" {
		_, _ = fmt.Fprintln(w, details)
	}
}

// Listen opens an HTTP port. The server outlives the parts of the process, so
// that probes and metrics show the stop as well: the part ends with its context
// and leaves the server running, until the step.
func Listen(ctx context.Context, address string, handler http.Handler) (net.Addr, Part, Step, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, Part{}, Step{}, fmt.Errorf("listen on %s: %w", address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }() // ends with Shutdown
	serve := func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		}
	}
	return listener.Addr(), Part{Name: "http", Do: serve}, Step{Name: "http", Within: 2 * time.Second, Do: server.Shutdown}, nil
}
