package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/kube/imports"
	"fairway.dev/fairway/internal/service"
)

// shop is a namespace with an import, a Consul, and a record of what was written.
type shop struct {
	mu       sync.Mutex
	missing  string
	silent   string
	in       consulimport.Import
	services map[consulimport.Ref]consulimport.Service
	slices   map[consulimport.Ref]consulimport.Slice
	version  int
	index    uint64
	answers  map[consulimport.Origin]consulimport.Answer
	fails    func(consulimport.Op) error
	did      []string
	status   consulimport.Status
	told     int // how often a status was written
	eyes     []*eye
}

// eye is what one replica sees of a shop.
type eye struct {
	*shop
	news chan struct{}
}

func newShop(names ...string) *shop {
	return &shop{
		in:       consulimport.Import{Ref: consulimport.Ref{Namespace: "shop", Name: "backends"}, UID: "u1", Names: names},
		services: map[consulimport.Ref]consulimport.Service{}, slices: map[consulimport.Ref]consulimport.Slice{},
		index: 10, answers: map[consulimport.Origin]consulimport.Answer{}, fails: func(consulimport.Op) error { return nil },
	}
}

// change changes the shop, and all replicas are told.
func (s *shop) change(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	for _, e := range s.eyes {
		select {
		case e.news <- struct{}{}:
		default:
		}
	}
}

// says lets Consul have so many instances of the service web that pass.
func (s *shop) says(ready int) {
	s.change(func() {
		s.index++
		a := consulimport.Answer{Read: consulimport.Read{Asked: time.Now(), Index: s.index}}
		for n := range ready {
			a.Instances = append(a.Instances, consulimport.Instance{
				ID: fmt.Sprint(n), Health: service.Passing, Address: netip.AddrFrom4([4]byte{198, 18, 0, byte(n + 1)}), Port: 8080,
			})
		}
		s.answers[consulimport.Origin{Name: "web"}] = a
	})
}

// expect compares what was written since it was last called.
func (s *shop) expect(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if diff := cmp.Diff(want, s.did); diff != "" {
		t.Errorf("%s (-want +written):\n%s", when, diff)
	}
	s.did = nil
}

// ready compares what the import's status says of its condition Ready.
func (s *shop) ready(t *testing.T, when, want string) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	got := ""
	for _, c := range s.status.Conditions {
		if c.Type == consulimport.ConditionReady {
			got = c.Reason
		}
	}
	if got != want {
		t.Errorf("%s: reason %q, want %q", when, got, want)
	}
}

// Changed is importSource, and consulServices.
func (e *eye) Changed() <-chan struct{} { return e.news }

// consulEye is an eye as consulServices.
type consulEye struct{ *eye }

func (e consulEye) View() (map[consulimport.Where]consulimport.Listing, map[consulimport.Origin]consulimport.Answer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return nil, maps.Clone(e.answers)
}

// Follow asks again when it is time to.
func (e consulEye) Follow(_ []consulimport.Where, _ []consulimport.Origin, again []consulimport.Question) {
	for _, q := range again {
		time.AfterFunc(time.Until(q.After), func() {
			e.change(func() {
				a := e.answers[q.Origin]
				a.Asked = time.Now()
				e.answers[q.Origin] = a
			})
		})
	}
}

func (e *eye) View() imports.View {
	e.mu.Lock()
	defer e.mu.Unlock()
	return imports.View{
		Missing: e.missing, Silent: e.silent, Imports: []consulimport.Import{e.in},
		Services: slices.Collect(maps.Values(e.services)), Slices: slices.Collect(maps.Values(e.slices)),
	}
}

func (e *eye) Apply(_ context.Context, op consulimport.Op) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var name string
	if op.Slice != nil {
		name = "slice " + op.Slice.Ref.Name
	} else {
		name = "Service " + op.Service.Ref.Name
	}
	if err := e.fails(op); err != nil {
		e.did = append(e.did, fmt.Sprintf("%s %s fails", op.Verb, name))
		return err
	}
	e.did = append(e.did, fmt.Sprintf("%s %s", op.Verb, name))
	e.version++
	if op.Service != nil {
		put(e.services, op.Verb, op.Service.Ref, *op.Service, &op.Service.Version, e.version)
	} else {
		put(e.slices, op.Verb, op.Slice.Ref, *op.Slice, &op.Slice.Version, e.version)
	}
	return nil
}

func put[T any](objects map[consulimport.Ref]T, verb consulimport.Verb, ref consulimport.Ref, object T, version *string, n int) {
	*version = fmt.Sprint(n)
	if delete(objects, ref); verb != consulimport.Delete {
		objects[ref] = object
	}
}

func (e *eye) Tell(_ context.Context, _ imports.View, status consulimport.Status) (bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cmp.Equal(e.status, status) {
		return false, nil
	}
	e.status = status
	e.told++
	return true, nil
}

// control starts a replica's loop.
func (s *shop) control(t *testing.T) (leader *leadership, board *board) {
	t.Helper()
	e := &eye{s, make(chan struct{}, 1)}
	return e.control(t, consulEye{e})
}

// control starts a replica's loop that sees the shop, and a Consul.
func (e *eye) control(t testing.TB, servers consulServices) (leader *leadership, board *board) {
	t.Helper()
	registry := prometheus.NewRegistry()
	metrics := newMetrics(registry)
	leader, board = unelected(slog.New(slog.DiscardHandler), metrics), newBoard(metrics)
	e.mu.Lock()
	e.eyes = append(e.eyes, e)
	e.mu.Unlock()
	i := &importer{
		source: e, consul: servers, leader: leader, leads: leader.begins(), report: board.loop("nothing was read yet"),
		log: slog.New(slog.NewTextHandler(t.Output(), nil)), metrics: newImportMetrics(registry), pulse: process.NewPulse("imports", stuckAfter),
		cluster: "east", maxLoss: 0.5,
	}
	go func() { _ = i.run(t.Context()) }()
	return leader, board
}

// What Consul has is imported by the leader alone; at rest, and when another comes
// to lead, nothing is written.
func TestI2LeaderChangeImportsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop("web")
		first, _ := s.control(t)
		second, _ := s.control(t)
		s.says(2)
		s.expect(t, "nobody leads")
		end := lead(t, first)
		s.expect(t, "one leads", "create slice web-consul-1", "create Service web")
		s.ready(t, "one leads", consulimport.ReasonImported)
		for range 5 {
			end()
			end = lead(t, second)
			time.Sleep(7 * time.Second)
			end()
			end = lead(t, first)
			time.Sleep(13 * time.Second)
		}
		time.Sleep(time.Hour)
		s.expect(t, "all is as it should be")
		if s.told != 1 {
			t.Errorf("the status was written %d times", s.told)
		}
		end()
		s.says(3)
		s.expect(t, "nobody leads any more")
		lead(t, second)
		s.expect(t, "the other leads", "update slice web-consul-1")
	})
}

// Before the lists are complete nothing is written, and the replica is not ready;
// before Consul has answered nothing is said of the import.
func TestI1NothingIsImportedBlindly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop("web")
		s.missing = "the list of services is not complete yet"
		leader, board := s.control(t)
		lead(t, leader)
		s.says(2)
		s.expect(t, "the lists are not complete")
		if why, _ := board.says(); why != s.missing {
			t.Errorf("not ready because %q", why)
		}
		s.change(func() { s.missing, s.silent = "", "services: forbidden"; clear(s.answers) })
		s.expect(t, "Consul has not answered")
		s.ready(t, "Consul has not answered", "")
		s.says(2)
		s.expect(t, "Consul answers", "create slice web-consul-1", "create Service web")
		s.change(func() {
			s.answers[consulimport.Origin{Name: "web"}] = consulimport.Answer{Read: consulimport.Read{Asked: time.Now(), Problem: "Consul is away"}}
		})
		time.Sleep(time.Hour)
		s.expect(t, "Consul is away")
		s.ready(t, "Consul is away", consulimport.ReasonSourceUnknown)
		if why, details := board.says(); why != "" || !strings.Contains(details, consulimport.ReasonSourceUnknown) || !strings.Contains(details, s.silent) {
			t.Errorf("says %q and %q", why, details)
		}
	})
}

// A service that is gone is asked for again; then its endpoints go, and after a
// while its Service.
func TestGoneServiceLeavesInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop("web")
		leader, _ := s.control(t)
		lead(t, leader)
		s.says(1)
		s.expect(t, "it is there", "create slice web-consul-1", "create Service web")
		s.says(0)
		time.Sleep(consulimport.ConfirmAfter - time.Millisecond)
		s.expect(t, "it may be gone")
		time.Sleep(time.Millisecond)
		s.expect(t, "it is gone", "delete slice web-consul-1")
		time.Sleep(consulimport.DeleteAfter + time.Second)
		s.expect(t, "it is long gone", "delete Service web")
	})
}

// A write that fails is tried again ever more seldom, until it is another one.
func TestFailedWritesBackOff(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err    error
		most   time.Duration
		reason string
	}{
		"the API server is away": {errors.New("connection refused"), mostRetry, ""},
		"it will not take it":    {&imports.Refused{Words: "no more Services"}, mostRefused, consulimport.ReasonWriteRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newShop("web")
				failing := true
				s.fails = func(op consulimport.Op) error {
					if failing && op.Service != nil {
						return tt.err
					}
					return nil
				}
				leader, _ := s.control(t)
				lead(t, leader)
				s.says(1)
				time.Sleep(time.Hour)
				s.mu.Lock()
				tries := len(s.did) - 1
				s.did = nil
				s.mu.Unlock()
				if least := int(time.Hour / tt.most); tries < least || tries > least+16 {
					t.Errorf("tried %d times in an hour, want about %d", tries, least)
				}
				synctest.Wait()
				if tt.reason == "" && s.told != 0 || tt.reason != "" && s.status.NotImported[0].Reason != tt.reason {
					t.Errorf("status, written %d times: %+v", s.told, s.status)
				}
				s.change(func() { s.in.Labels, failing = map[string]string{"team": "a"}, false })
				s.expect(t, "it is another one", "create Service web")
				s.ready(t, "it is another one", consulimport.ReasonImported)
			})
		})
	}
}

// Endpoints that move to other ports are there before they leave, or stay.
func TestNothingLeavesBeforeWhatReplacesItIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop("web")
		leader, _ := s.control(t)
		lead(t, leader)
		s.says(1)
		s.expect(t, "it is there", "create slice web-consul-1", "create Service web")
		failing := true
		s.fails = func(op consulimport.Op) error {
			if failing && op.Verb == consulimport.Create {
				return errors.New("connection refused")
			}
			return nil
		}
		s.change(func() {
			s.index++
			a := s.answers[consulimport.Origin{Name: "web"}]
			a.Index, a.Instances = s.index, slices.Clone(a.Instances)
			a.Instances[0].Port = 9090
			s.answers[consulimport.Origin{Name: "web"}] = a
		})
		s.expect(t, "its port has changed", "create slice web-consul-2 fails")
		s.change(func() { failing = false })
		time.Sleep(time.Second)
		s.expect(t, "the API server is back", "create slice web-consul-2", "delete slice web-consul-1")
	})
}

// Who ceases to lead finishes the write that it is at, and makes no other.
func TestNoWriteFollowsTheEndOfTheLead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop("web")
		leader, _ := s.control(t)
		end := lead(t, leader)
		s.fails = func(consulimport.Op) error {
			end()
			return nil
		}
		s.says(1)
		time.Sleep(time.Hour)
		s.expect(t, "the lead ends with the first write", "create slice web-consul-1")
		s.ready(t, "the lead ends with the first write", "")
	})
}
