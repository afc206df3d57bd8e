package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// I2: when the leader is gone from one moment to the next, another leads within 5 s,
// and never do both, although the first may only be cut off from the API server.
func TestI2AnotherLeadsWithin5Seconds(t *testing.T) {
	for range 50 { // client-go looks at the Lease at random times
		synctest.Test(t, func(t *testing.T) {
			api := new(leaseServer)
			a := newCandidate(t, api, "a")
			a.await(t, a)
			b := newCandidate(t, api, "b")
			time.Sleep(7 * retryEvery) // b has seen it renew
			if b.leadership.leads() {
				t.Fatal("both lead")
			}
			a.cutOff.Store(true)
			if took := b.await(t, a); took > 5*time.Second {
				t.Errorf("another leads after %s", took)
			}
			a.cutOff.Store(false)
			time.Sleep(2 * leadFor)
			if a.leadership.leads() || !b.leadership.leads() {
				t.Errorf("the first leads: %t, the other: %t", a.leadership.leads(), b.leadership.leads())
			}
		})
	}
}

// I2: a leader that is told to end gives the lead up, and another takes it at once.
func TestI2ALeaderThatEndsGivesTheLeadUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := new(leaseServer)
		a := newCandidate(t, api, "a")
		a.await(t, a)
		b := newCandidate(t, api, "b")
		time.Sleep(leadFor)
		a.end()
		if took := b.await(t, a); took > 3*retryEvery {
			t.Errorf("another leads after %s", took)
		}
	})
}

// I2: a leader that cannot do its work lets one lead that can, and keeps the lead no
// longer than that takes. Where none can they take turns, ever more seldom.
func TestI2ALeaderThatCannotWorkLetsAnotherLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := new(leaseServer)
		a := newCandidate(t, api, "a")
		a.await(t, a)
		b := newCandidate(t, api, "b")
		time.Sleep(time.Hour)
		a.idle.Store(true)
		time.Sleep(firstTurn - retryEvery)
		a.idle.Store(false)
		time.Sleep(time.Hour)
		if !a.leads() || b.terms.Load() != 0 {
			t.Fatalf("the other began to lead %d times, and nothing was wrong for long", b.terms.Load())
		}
		a.idle.Store(true)
		if took := b.await(t, a); took < firstTurn || took > firstTurn+4*retryEvery {
			t.Errorf("the other leads after %s", took)
		}
		time.Sleep(time.Hour)
		if !b.leads() || a.terms.Load() != 1 || b.terms.Load() != 1 {
			t.Errorf("a began to lead %d times, b %d times; want b to stay", a.terms.Load(), b.terms.Load())
		}
		b.idle.Store(true)
		time.Sleep(time.Hour)
		if turns := a.terms.Load() + b.terms.Load(); turns < 10 || turns > 25 {
			t.Errorf("%d turns in an hour in which none can work", turns)
		}
		a.idle.Store(false)
		time.Sleep(longestTurn + time.Minute)
		before := a.terms.Load() + b.terms.Load()
		time.Sleep(time.Hour)
		if !a.leads() || a.terms.Load()+b.terms.Load() != before {
			t.Errorf("the one that can work leads: %t, %d changes after it did", a.leads(), a.terms.Load()+b.terms.Load()-before)
		}
	})
}

// I2: one that was frozen does not lead when it goes on, before it has asked whether
// it still does.
func TestI2AFrozenLeaderDoesNotLeadWhenItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := new(leaseServer)
		a := newCandidate(t, api, "a")
		a.await(t, a)
		for range 1000 {
			time.Sleep(retryEvery / 7)
			if a.now() == nil {
				t.Fatal("it renews, and does not lead")
			}
		}
		long := time.Now().Add(-goodFor)
		a.renewed.Store(&long)
		if a.now() != nil || a.leads() {
			t.Error("it leads, though its last renewal is not good any more")
		}
		time.Sleep(2 * retryEvery)
		if !a.leads() || a.terms.Load() != 2 {
			t.Errorf("when it has renewed it leads: %t, and its loops were told %d times", a.leads(), a.terms.Load())
		}
	})
}

// A leader at rest leaves out every second renewal, and leads all the time.
func TestALeaderRenewsAsOftenAsItMust(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := new(leaseServer)
		a := newCandidate(t, api, "a")
		a.await(t, a)
		before, now := api.writes(), time.Now()
		for time.Since(now) < time.Minute {
			time.Sleep(retryEvery / 7)
			if !a.leads() {
				t.Fatal("it does not lead")
			}
		}
		if writes := api.writes() - before; writes < 74 || writes > 76 {
			t.Errorf("%d renewals in a minute, want one in %s", writes, 2*retryEvery)
		}
	})
}

// unelected is a leadership that begins and ends as it is told.
func unelected(log *slog.Logger, metrics *metrics) *leadership {
	l := &leadership{log: log, metrics: metrics}
	always := time.Now().AddDate(100, 0, 0)
	l.renewed.Store(&always)
	return l
}

// leaseServer is an API server with one Lease. It refuses an update of one that has
// changed since, which client-go's fake does not.
type leaseServer struct {
	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
}

func (s *leaseServer) answer(action clienttesting.Action) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource := action.GetResource().GroupResource()
	write, ok := action.(clienttesting.UpdateAction) // or a create
	if s.lease == nil && action.GetVerb() != "create" {
		return nil, apierrors.NewNotFound(resource, leaseName)
	}
	if ok {
		lease := write.GetObject().(*coordinationv1.Lease).DeepCopy()
		if s.lease != nil && lease.ResourceVersion != s.lease.ResourceVersion {
			return nil, apierrors.NewConflict(resource, leaseName, errors.New("it has changed"))
		}
		s.version++
		lease.ResourceVersion = fmt.Sprint(s.version)
		s.lease = lease
	}
	return s.lease.DeepCopy(), nil
}

// writes is how often the Lease was written.
func (s *leaseServer) writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// candidate is a replica in the election.
type candidate struct {
	*leadership
	cutOff *atomic.Bool // from the API server
	idle   *atomic.Bool // cannot do its work
	terms  atomic.Int32 // how often its loops were told that it leads
	end    func()
}

func newCandidate(t *testing.T, api *leaseServer, name string) *candidate {
	t.Helper()
	c := &candidate{cutOff: new(atomic.Bool), idle: new(atomic.Bool)}
	blocked := func() (why, details string) {
		if c.idle.Load() {
			return "Consul is away", ""
		}
		return "", ""
	}
	own := fake.NewClientset()
	own.PrependReactor("*", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if c.cutOff.Load() {
			return true, nil, errors.New("cut off")
		}
		lease, err := api.answer(action)
		return true, lease, err
	})
	opts := Default()
	opts.PodName, opts.PodNamespace = name, "fairway-system"
	leader, err := newLeadership(opts, own, blocked, slog.New(slog.DiscardHandler), newMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	c.leadership = leader
	begins := leader.begins()
	ctx, end := context.WithCancel(context.Background())
	c.end = end
	go func() {
		for {
			select {
			case <-begins:
				c.terms.Add(1)
			case <-ctx.Done():
				return
			}
		}
	}()
	t.Cleanup(end)
	go leader.run(ctx)
	return c
}

// await waits until the candidate leads, and says how long that took. Meanwhile other
// must not lead at the same time.
func (c *candidate) await(t *testing.T, other *candidate) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !c.leads() {
		if <-tick.C; time.Since(start) > time.Minute {
			t.Fatal("nobody leads")
		}
	}
	if c != other && other.leads() {
		t.Error("both lead")
	}
	return time.Since(start)
}
