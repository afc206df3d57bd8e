package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func request(t *testing.T, a *app, method, path string) (code int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.routes().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, strings.TrimSpace(w.Body.String())
}

func info(t *testing.T, a *app) report {
	t.Helper()
	_, body := request(t, a, http.MethodGet, "/info")
	var got report
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return got
}

func TestRoutes(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps []string // METHOD PATH -> CODE
	}{
		{"name", []string{"GET / 200", "GET /other 404", "POST / 405"}},
		{"readiness", []string{
			"GET /ready 200", "POST /ready?set=false 200", "GET /ready 503", "GET / 200",
			"PUT /ready?set=true 200", "GET /ready 200", "PUT /ready?set=0 200", "GET /ready 503", "POST /ready 200", "GET /ready 200",
		}},
		{"reading changes nothing", []string{"GET /ready?set=false 200", "GET /ready 200", "GET /err?set=true 405", "GET / 200"}},
		{"errors by switch", []string{"POST /err 200", "GET / 500", "GET / 500", "GET /ready 200", "POST /err?set=false 200", "GET / 200"}},
		{"errors by rate", []string{
			"POST /err?rate=0.5 200", "GET / 200", "GET / 500", "GET / 200", "GET / 500",
			"POST /err?rate=1 200", "GET / 500", "POST /err?rate=0 200", "GET / 200",
		}},
		{"bad values change nothing", []string{
			"POST /ready?set=maybe 400", "POST /err?rate=2 400", "POST /err?rate=NaN 400", "POST /err?rate=-1 400", "POST /err?set=x 400",
			"POST /delay 400", "POST /delay?for=long 400", "POST /delay?for=-1s 400", "GET /ready 200", "GET / 200",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newApp("web-0", true)
			for _, step := range test.steps {
				parts := strings.Fields(step)
				code, body := request(t, a, parts[0], parts[1])
				if strconv.Itoa(code) != parts[2] {
					t.Errorf("%s: code %d", step, code)
				}
				if step == "GET / 200" && body != "web-0" {
					t.Errorf("%s: body %q", step, body)
				}
			}
		})
	}
}

func TestErrorRateIsExact(t *testing.T) {
	for rate, want := range map[string]int{"0.1": 100, "0.25": 250, "0.3": 300, "0.999": 999} {
		a, failed := newApp("web-0", true), 0
		request(t, a, http.MethodPost, "/err?rate="+rate)
		for range 1000 {
			if code, _ := request(t, a, http.MethodGet, "/"); code == http.StatusInternalServerError {
				failed++
			}
		}
		if failed != want {
			t.Errorf("at rate %s %d of 1000 failed, want %d", rate, failed, want)
		}
	}
}

func TestFirstReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp("web-0", false)
		started := time.Now().UnixMilli()
		request(t, a, http.MethodGet, "/ready")
		if got := info(t, a); got.FirstReady != 0 || got.Ready || got.StartedAt != started || got.Pod != "web-0" {
			t.Errorf("before it was ready: %+v", got)
		}
		<-time.After(time.Second)
		request(t, a, http.MethodPost, "/ready")
		if got := info(t, a); got.FirstReady != 0 || !got.Ready {
			t.Errorf("before a probe saw it: %+v", got)
		}
		<-time.After(time.Second)
		for range 2 { // the second probe changes nothing
			request(t, a, http.MethodGet, "/ready")
			if got, want := info(t, a).FirstReady, started+2000; got != want {
				t.Errorf("first ready %d, want %d", got, want)
			}
			<-time.After(time.Second)
		}
	})
}

func TestDelayAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApp("web-0", true)
		request(t, a, http.MethodPost, "/delay?for=250ms")
		start, took := time.Now(), make(chan time.Duration)
		go func() {
			request(t, a, http.MethodGet, "/")
			took <- time.Since(start)
		}()
		synctest.Wait()
		if got := info(t, a); got.InFlight != 1 || got.Requests != 0 {
			t.Errorf("while a request waits: %+v", got)
		}
		if got := <-took; got != 250*time.Millisecond {
			t.Errorf("the answer took %s", got)
		}
		if got := info(t, a); got.InFlight != 0 || got.Requests != 1 {
			t.Errorf("after the answer: %+v", got)
		}
	})
}
