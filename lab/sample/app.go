package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// app is the state that requests see and switch.
type app struct {
	pod     string
	started time.Time

	mu         sync.Mutex
	ready      bool
	firstReady time.Time     // zero until a probe was first answered 200
	errorRate  float64       // share of requests that fail, 0 to 1
	delay      time.Duration // before each answer
	requests   int64         // begun
	answered   int64
}

// report is what GET /info answers. Times are in milliseconds since 1970.
type report struct {
	Pod        string `json:"pod"`
	StartedAt  int64  `json:"startedAt"`
	FirstReady int64  `json:"firstReady"` // when a readiness probe was first answered 200; 0 for never
	Ready      bool   `json:"ready"`
	Requests   int64  `json:"requests"` // answered at /, errors included
	InFlight   int64  `json:"inFlight"` // begun at / and not yet answered
}

func newApp(pod string, ready bool) *app {
	return &app{pod: pod, started: time.Now(), ready: ready}
}

// routes returns what the app serves. A switch without a value is on.
//
//	GET  /                      the pod's name
//	GET  /ready                 200 or 503: the readiness probe
//	POST /ready?set=true|false  switch readiness
//	POST /err?rate=0..1         let this share of requests to / fail with 500
//	POST /err?set=true|false    let all or none of them fail
//	POST /delay?for=250ms       let answers at / take this long
//	GET  /info                  a report as JSON
//	GET  /call?url=URL          what URL answers to the app, or 502 and why not
//
// PUT does the same as POST.
func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.serveName)
	mux.HandleFunc("GET /ready", a.serveReady)
	mux.HandleFunc("GET /call", serveCall)
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.info())
	})
	for path, change := range map[string]func(*http.Request) error{
		"/ready": a.setReady, "/err": a.setErrors, "/delay": a.setDelay,
	} {
		for _, method := range []string{http.MethodPost, http.MethodPut} {
			mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
				if err := change(r); err != nil {
					http.Error(w, err.Error(), http.StatusBadRequest)
				}
			})
		}
	}
	return mux
}

// serveName answers the pod's name, late or with an error if that is switched on.
func (a *app) serveName(w http.ResponseWriter, r *http.Request) {
	delay, fail := a.begin()
	defer a.end()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-r.Context().Done():
			return
		}
	}
	if fail {
		http.Error(w, a.pod+" was told to fail", http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, a.pod)
}

// begin notes a request and returns how it is to be answered. Failures are
// spread evenly, so that a rate of 0.5 fails every second request.
func (a *app) begin() (delay time.Duration, fail bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	failures := func(n int64) float64 { return math.Floor(float64(n)*a.errorRate + 1e-9) }
	fail = failures(a.requests+1) > failures(a.requests)
	a.requests++
	return a.delay, fail
}

func (a *app) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answered++
}

// serveReady is the readiness probe.
func (a *app) serveReady(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ready {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	if a.firstReady.IsZero() {
		a.firstReady = time.Now()
	}
	fmt.Fprintln(w, "ready")
}

func (a *app) setReady(r *http.Request) error {
	on, err := switchValue(r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = on
	return nil
}

func (a *app) setErrors(r *http.Request) error {
	rate := 0.0
	if text := r.FormValue("rate"); text != "" {
		var err error
		if rate, err = strconv.ParseFloat(text, 64); err != nil || !(rate >= 0 && rate <= 1) {
			return fmt.Errorf("rate=%q is not a number from 0 to 1", text)
		}
	} else if on, err := switchValue(r); err != nil {
		return err
	} else if on {
		rate = 1
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.errorRate = rate
	return nil
}

func (a *app) setDelay(r *http.Request) error {
	delay, err := time.ParseDuration(r.FormValue("for"))
	if err != nil || delay < 0 {
		return fmt.Errorf("for=%q is not a time such as 250ms", r.FormValue("for"))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delay = delay
	return nil
}

// switchValue returns what a request sets a switch to: on, unless it says.
func switchValue(r *http.Request) (bool, error) {
	text := r.FormValue("set")
	if text == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("set=%q is neither true nor false", text)
	}
	return on, nil
}

func (a *app) info() report {
	a.mu.Lock()
	defer a.mu.Unlock()
	info := report{
		Pod: a.pod, StartedAt: a.started.UnixMilli(), Ready: a.ready,
		Requests: a.answered, InFlight: a.requests - a.answered,
	}
	if !a.firstReady.IsZero() {
		info.FirstReady = a.firstReady.UnixMilli()
	}
	return info
}
