package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"fairway.dev/fairway/internal/nodeview"
)

// handler serves /metrics, /healthz and /readyz. Both answers to probes say
// why when they say no.
//
//   - /healthz fails if a loop does not turn, which a restart may help. It does
//     not fail because Consul or the API server is away, which it does not.
//   - /readyz fails while nothing can be published. It also describes where the
//     pods come from.
//
// And it serves the view of the node, for people.
func handler(
	ctx context.Context, gatherer prometheus.Gatherer, board *board,
	describe func(time.Time) string, view func(time.Time) nodeview.View, pulses []*pulse,
) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+nodeview.Path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(view(time.Now()))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		for _, pulse := range pulses {
			if why := pulse.stuck(time.Now()); why != "" {
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
		answer(w, board.why(), describe(time.Now()))
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
