package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is that of the Lease by which the replicas agree who leads.
const leaseName = "fairway-controller"

// A leader that dies is followed by another within 5 seconds: the others look at the
// Lease every retryEvery, to which client-go adds up to 1.2 times as much, so they
// see its last renewal up to 0.88 s late, and that it has run out as late again. One
// that has not renewed for 1.6 s does not lead, and no other begins before 2 s have
// passed: a second is lost because client-go compares renewals by the second.
//
// That is much shorter than what is usual, for it is cheap here to lose the lead while
// the API server hangs: the loops stay warm, and nothing is written because the leader
// is another. The leader need not renew as often as the others look: client-go has one
// period for both, so every second renewal is left out. What is left are 1.25 writes of
// one small object a second, by far the most that a controller at rest does.
const (
	leadFor     = 3 * time.Second // whole seconds: so the API has it
	renewWithin = 1200 * time.Millisecond
	retryEvery  = 400 * time.Millisecond
	goodFor     = renewWithin + retryEvery  // a renewal
	soonEnough  = retryEvery + retryEvery/2 // a renewal sooner than that after one that was made is left out
)

// A leader that cannot do its work gives the lead up: another may reach Consul where
// this one does not. If none can they take turns, each twice as long as the one before.
// The first leaves Consul the time to elect a leader of its own.
const (
	firstTurn   = 10 * time.Second
	longestTurn = 5 * time.Minute
	// aside is how long it then takes no part: longer than others take to see it.
	aside = leadFor
)

// leadership is whether this replica leads. The loops work in any case and ask it
// before they write: so nothing has to be made ready when it changes, and no
// write follows from the change itself.
type leadership struct {
	elector *leaderelection.LeaderElector
	blocked func() (why, details string) // why this replica cannot do its work
	log     *slog.Logger
	metrics *metrics
	// loops are told when this replica begins to lead. Each has room for one value.
	loops []chan struct{}

	// term ends when this replica does not lead any more.
	term atomic.Pointer[context.Context]
	// renewed is when the last renewal was sent that went through.
	renewed atomic.Pointer[time.Time]

	// The elector's own, of which there is one at a time.
	turn     time.Duration // how long it may lead while it cannot work
	idle     time.Time     // since when it does; zero if it does not
	resign   context.CancelFunc
	resigned bool
}

// renewals is a lock of which the leadership knows when it was renewed.
type renewals struct {
	resourcelock.Interface
	leadership *leadership
}

// Create makes the Lease.
func (r renewals) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	sent := time.Now()
	return r.note(sent, record, r.Interface.Create(ctx, record))
}

// Update writes the Lease, unless that may wait. A leader that is to give the lead up
// fails to.
func (r renewals) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	sent := time.Now()
	if l := r.leadership; record.HolderIdentity == r.Identity() && l.leads() {
		if err := l.look(sent); err != nil {
			return err
		}
		if sent.Sub(*l.renewed.Load()) < soonEnough {
			return nil
		}
	}
	return r.note(sent, record, r.Interface.Update(ctx, record))
}

func (r renewals) note(sent time.Time, record resourcelock.LeaderElectionRecord, err error) error {
	if l := r.leadership; err == nil && record.HolderIdentity == r.Identity() {
		last := l.renewed.Load()
		late := last != nil && time.Since(*last) >= goodFor
		if l.renewed.Store(&sent); late && l.leads() {
			l.tell() // it may have passed over a write
		}
	}
	return err
}

func newLeadership(opts Options, client kubernetes.Interface, blocked func() (why, details string), log *slog.Logger, metrics *metrics) (*leadership, error) {
	l := &leadership{blocked: blocked, log: log, metrics: metrics}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: leaseName,
		Lock: renewals{&resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: opts.PodNamespace, Name: leaseName},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: opts.PodName},
		}, l},
		LeaseDuration: leadFor, RenewDeadline: renewWithin, RetryPeriod: retryEvery,
		ReleaseOnCancel: true, // it ends last, see Controller.Run
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: l.begin,
			OnStoppedLeading: l.end,
			OnNewLeader:      func(who string) { log.Info("leader", "pod", who) },
		},
	})
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	l.elector = elector
	return l, nil
}

// begins gets a value when this replica begins to lead. Each loop asks for its own,
// before run.
func (l *leadership) begins() <-chan struct{} {
	loop := make(chan struct{}, 1)
	l.loops = append(l.loops, loop)
	return loop
}

// run takes part in the election until ctx ends, and then gives the lead up.
func (l *leadership) run(ctx context.Context) {
	l.turn = firstTurn
	for ctx.Err() == nil {
		var candidacy context.Context
		candidacy, l.resign = context.WithCancel(ctx)
		l.idle, l.resigned = time.Time{}, false
		l.elector.Run(candidacy) // returns when the lead was lost, too
		if l.resign(); l.resigned {
			pause(ctx, aside)
		}
	}
}

// look is called as often as a leader might renew. It gives the lead up, and is an
// error, if this replica has not been able to work for a turn.
func (l *leadership) look(now time.Time) error {
	why, _ := l.blocked()
	switch {
	case why == "":
		l.turn, l.idle = firstTurn, time.Time{}
	case l.idle.IsZero():
		l.idle = now
	case now.Sub(l.idle) >= l.turn:
		l.log.Warn("this replica leads and cannot do its work: another is to lead", "for", now.Sub(l.idle).String(), "reason", why)
		l.turn, l.resigned = min(2*l.turn, longestTurn), true
		l.resign()
		return fmt.Errorf("the lead is given up: %s", why)
	}
	return nil
}

func (l *leadership) begin(term context.Context) {
	l.term.Store(&term)
	l.metrics.leading.Set(1)
	l.log.Info("this replica leads")
	l.tell()
}

// tell tells the loops that this replica leads.
func (l *leadership) tell() {
	for _, loop := range l.loops {
		select {
		case loop <- struct{}{}:
		default: // it has yet to look, and will see this too
		}
	}
}

func (l *leadership) end() {
	l.metrics.leading.Set(0)
	if l.term.Swap(nil) != nil {
		l.log.Info("this replica does not lead any more")
	}
}

// leads tells whether this replica may write.
func (l *leadership) leads() bool { return l.now() != nil }

// now is the term of this replica, nil if it does not lead. client-go may call begin
// after the term has ended already; and it takes time to find out that it has, for one
// that was frozen meanwhile. So the last renewal must be good.
func (l *leadership) now() context.Context {
	term, renewed := l.term.Load(), l.renewed.Load()
	if term == nil || (*term).Err() != nil || renewed == nil || time.Since(*renewed) >= goodFor {
		return nil
	}
	return *term
}

// String says who leads, for people.
func (l *leadership) String() string {
	if l.leads() {
		return "this replica leads"
	}
	if who := l.elector.GetLeader(); who != "" {
		return who + " leads"
	}
	return "nobody is known to lead"
}
