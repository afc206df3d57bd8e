package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
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
// is another. It costs the API server 2.5 writes of one small object a second.
const (
	leadFor     = 3 * time.Second // whole seconds: so the API has it
	renewWithin = 1200 * time.Millisecond
	retryEvery  = 400 * time.Millisecond
	goodFor     = renewWithin + retryEvery // a renewal
)

// A leader that cannot do its work gives the lead up: another may reach Consul where
// this one does not. If none can they take turns, each twice as long as the one before.
// The first leaves Consul the time to elect a leader of its own.
const (
	firstTurn   = 10 * time.Second
	longestTurn = 5 * time.Minute
	// aside is how long it then takes no part: longer than others take to see it.
	aside = leadFor
	// lookAfter is how often a leader looks whether it can work.
	lookAfter = time.Second
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

// Update writes the Lease.
func (r renewals) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	sent := time.Now()
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
	turn := firstTurn
	for ctx.Err() == nil {
		candidacy, end := context.WithCancel(ctx)
		var gaveUp bool
		var watch sync.WaitGroup
		watch.Go(func() {
			if turn, gaveUp = l.watch(candidacy, turn); gaveUp {
				end()
			}
		})
		l.elector.Run(candidacy) // returns when the lead was lost, too
		end()
		if watch.Wait(); gaveUp {
			pause(ctx, aside)
		}
	}
}

// watch returns when ctx ends, or when this replica is to give the lead up, because it
// has not been able to work for a turn. It also returns how long the next turn is.
func (l *leadership) watch(ctx context.Context, turn time.Duration) (next time.Duration, giveUp bool) {
	var since time.Time // it leads and cannot work
	for pause(ctx, lookAfter) {
		why, _ := l.blocked()
		if why == "" {
			turn = firstTurn
		}
		switch now := time.Now(); {
		case why == "" || !l.leads():
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= turn:
			l.log.Warn("this replica leads and cannot do its work: another is to lead", "for", now.Sub(since).String(), "reason", why)
			return min(2*turn, longestTurn), true
		}
	}
	return turn, false
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
