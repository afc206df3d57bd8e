package discovery

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consulimport"
)

// I1: whatever is no whole and current answer of Consul is none, or says what it
// lacks.
func TestI1UnusableAnswers(t *testing.T) {
	t.Parallel()
	const usable = `[{"Node": {"Node": "n"}, "Service": {"ID": "web", "Service": "web", "Port": 80}, "Checks": []}]`
	for name, tt := range map[string]struct {
		body    string
		code    int
		header  map[string]string
		kind    error // of the error; nil if there is none
		filter  bool
		stale   bool
		noIndex bool
	}{
		"a usable one":        {body: usable},
		"none":                {body: `[]`},
		"null":                {body: `null`, kind: consul.ErrUnusable},
		"an instance is null": {body: `[null]`, kind: consul.ErrUnusable},
		"no service":          {body: `[{"Node": {}}]`, kind: consul.ErrUnusable},
		"a check is null":     {body: `[{"Node": {}, "Service": {}, "Checks": [null]}]`, kind: consul.ErrUnusable},
		"a page":              {body: `<html>`, kind: consul.ErrUnusable},
		"half of it":          {body: usable[:40], kind: consul.ErrUnusable},
		"a failure":           {body: `rpc error`, code: http.StatusInternalServerError, kind: consul.ErrUnavailable},
		"later":               {body: `slow down`, code: http.StatusTooManyRequests, kind: consul.ErrThrottled},
		"refused":             {body: `Permission denied`, code: http.StatusForbidden, kind: consul.ErrDenied},
		"filtered":            {body: `[]`, header: map[string]string{"X-Consul-Results-Filtered-By-ACLs": "true"}, filter: true},
		"no leader":           {body: usable, header: map[string]string{"X-Consul-Knownleader": "false"}, stale: true},
		"an old copy":         {body: usable, header: map[string]string{"X-Consul-Lastcontact": "20"}, stale: true},
		"no index":            {body: usable, header: map[string]string{"X-Consul-Index": "0"}, noIndex: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if q := r.URL.Query(); !q.Has("consistent") || q.Get("near") != "_agent" || q.Get("dc") != "dc2" || q.Get("ns") != "n" || q.Get("partition") != "p" {
					t.Errorf("asked for %s", r.URL)
				}
				for key, value := range map[string]string{"X-Consul-Index": "7", "X-Consul-Knownleader": "true", "X-Consul-Lastcontact": "0"} {
					w.Header().Set(key, value)
				}
				for key, value := range tt.header {
					w.Header().Set(key, value)
				}
				if tt.code != 0 {
					w.WriteHeader(tt.code)
				}
				fmt.Fprint(w, tt.body)
			}))
			defer server.Close()
			client, err := consul.New(consul.Config{Address: server.URL})
			if err != nil {
				t.Fatal(err)
			}
			q := question{Name: "web", Where: consulimport.Where{Datacenter: "dc2", Namespace: "n", Partition: "p"}}
			r, err := ask(t.Context(), client, q, 0, 0)
			if !errors.Is(err, tt.kind) || (err != nil) != (tt.kind != nil) {
				t.Fatalf("error %v, want %v", err, tt.kind)
			}
			if err == nil && (r.Filtered != tt.filter || r.Stale != tt.stale || (r.Index == 0) != tt.noIndex) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Consul that does not answer is given some time before what it said counts as
// unknown; what it does answer counts at once.
func TestPatience(t *testing.T) {
	t.Parallel()
	away := &consul.Error{Kind: consul.ErrUnavailable}
	synctest.Test(t, func(t *testing.T) {
		q := question{Name: "web"}
		s := &Source{changed: make(chan struct{}, 1), running: map[question]*follower{}, replies: map[question]reply{}}
		f := &follower{question: q, source: s, index: 7}
		s.running[q] = f
		s.take(f, reply{Read: consulimport.Read{Index: 7}}, false)
		began := time.Now()
		for time.Since(began) < time.Hour {
			wait := f.fail(time.Now(), away)
			if unknown := s.replies[q].Problem != ""; unknown != (time.Since(began) >= patience) {
				t.Fatalf("after %s unknown: %v", time.Since(began), unknown)
			}
			if wait <= 0 || wait > longestRetry*3/2 {
				t.Fatalf("waits %s", wait)
			}
			time.Sleep(wait)
		}
		if f.index != 0 {
			t.Error("asks for news since an index that may be another life's")
		}
		f.failing = time.Time{}
		f.fail(time.Now(), consul.Classify(api.StatusError{Code: http.StatusForbidden, Body: "Permission denied"}))
		if got := s.replies[q].Problem; !strings.Contains(got, "Permission denied") {
			t.Errorf("refused: %q", got)
		}
	})
}

// As long as there is room each question is held for long; if not, all have their
// turn in time, and even very many make no more than so many requests.
func TestHold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		questions int
		want      time.Duration
	}{{1, holdFor}, {100, holdFor}, {200, roundWithin / 2}, {1000, roundWithin / 10}, {100_000, leastHold}} {
		s := &Source{holds: make(chan struct{}, 100), running: map[question]*follower{}}
		for n := range tt.questions {
			s.running[question{Name: fmt.Sprint(n)}] = nil
		}
		if got := s.hold(); got != tt.want {
			t.Errorf("%d questions: held for %s, want %s", tt.questions, got, tt.want)
		}
	}
}

// A reply is news if it says something else: an index that moves on does not.
func TestNews(t *testing.T) {
	t.Parallel()
	before := reply{Read: consulimport.Read{Index: 7}, instances: []consulimport.Instance{{ID: "a", Tags: []string{"v1"}}}}
	for name, tt := range map[string]struct {
		change func(*reply)
		same   bool
	}{
		"nothing":            {func(*reply) {}, true},
		"the index moves on": {func(r *reply) { r.Index, r.Asked = 8, time.Now() }, true},
		"it goes back":       {func(r *reply) { r.Index = 6 }, false},
		"it is filtered":     {func(r *reply) { r.Filtered = true }, false},
		"it is old":          {func(r *reply) { r.Stale = true }, false},
		"a problem":          {func(r *reply) { r.Problem = "p" }, false},
		"an instance":        {func(r *reply) { r.instances = nil }, false},
		"a tag":              {func(r *reply) { r.instances = []consulimport.Instance{{ID: "a", Tags: []string{"v2"}}} }, false},
		"a name":             {func(r *reply) { r.names = []string{"db"} }, false},
	} {
		now := before
		tt.change(&now)
		if got := now.sameAs(before); got != tt.same {
			t.Errorf("%s: the same %v", name, got)
		}
	}
}
