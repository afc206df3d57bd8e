package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consulimport"
)

const (
	// answerWithin is how long an answer may take that is not waited for. Consul
	// itself tries for 7 s to reach its leader.
	answerWithin = 9 * time.Second
	// askAgain, doubled by each failure up to longestRetry, is the wait after one.
	askAgain     = 250 * time.Millisecond
	longestRetry = 15 * time.Second
	// patience is how long Consul may be out of reach before the last answer counts
	// as unknown: mostly it has another leader by then.
	patience = 5 * time.Second
	// pace is the least time between two questions about the same service.
	pace = 20 * time.Millisecond
	// idlePace is that time if a question came back at once and without news, as it
	// does from something that does not hold questions.
	idlePace = time.Second
)

// follower asks one question again and again.
type follower struct {
	question
	source *Source
	end    context.CancelFunc

	mu     sync.Mutex
	after  time.Time          // an answer that is asked for earlier is no use
	cancel context.CancelFunc // of the question that is held

	// Those of the one goroutine.
	index    uint64 // of the last answer; 0 asks anew
	asked    time.Time
	failures int
	failing  time.Time // since when; zero if it is not
}

// askAfter makes the follower ask anew at that time, though there be no news.
func (f *follower) askAfter(after time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if after.Equal(f.after) {
		return
	}
	f.after = after
	if !after.IsZero() && f.cancel != nil {
		f.cancel() // it may be held for longer
	}
}

// run asks until ctx ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		timer := time.NewTimer(f.turn(ctx))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// turn asks once, when there is a place, and returns how long to wait until the
// next time.
func (f *follower) turn(ctx context.Context) time.Duration {
	select {
	case f.source.holds <- struct{}{}:
		defer func() { <-f.source.holds }()
	case <-ctx.Done():
		return 0
	}
	asking, index, hold := f.begin(ctx)
	defer f.done()
	asked := time.Now()
	reply, err := ask(asking, f.source.client, f.question, index, hold)
	switch {
	case ctx.Err() != nil || err != nil && errors.Is(asking.Err(), context.Canceled):
		return 0
	case err != nil:
		return f.fail(asked, err)
	}
	idle := index > 0 && reply.Index == index && time.Since(asked) < hold/2
	reply.Asked = asked
	f.source.take(f, reply, f.confirms(asked))
	f.index, f.asked, f.failures, f.failing = reply.Index, asked, 0, time.Time{}
	switch {
	case f.polled():
		return roundWithin
	case idle:
		return idlePace
	}
	return pace - time.Since(asked)
}

// begin says how to ask: for news since an index, held for a time at most, or anew.
func (f *follower) begin(ctx context.Context) (asking context.Context, index uint64, hold time.Duration) {
	index, hold = f.index, f.source.hold()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked.Before(f.after) {
		if left := time.Until(f.after); left > 0 {
			hold = min(hold, left)
		} else {
			index = 0
		}
	}
	if index == 0 {
		hold = 0
	}
	asking, f.cancel = context.WithTimeout(ctx, hold+hold/16+answerWithin)
	return asking, index, hold
}

func (f *follower) done() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cancel()
	f.cancel = nil
}

// confirms tells whether an answer is the first that was asked for late enough.
func (f *follower) confirms(asked time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.after.IsZero() && f.asked.Before(f.after) && !asked.Before(f.after)
}

// fail notes that no usable answer came. It counts as soon as it is an answer, such
// as a refusal, and if none came, when it is so for a while.
func (f *follower) fail(asked time.Time, err error) time.Duration {
	now := time.Now()
	if f.failing.IsZero() {
		f.failing = now
	}
	wait := min(longestRetry, askAgain<<min(f.failures, 16))
	f.failures++
	f.index = 0
	if !errors.Is(err, consul.ErrUnavailable) || now.Sub(f.failing) >= patience {
		f.source.take(f, reply{Read: consulimport.Read{Asked: asked, Problem: words(f.question, err)}}, false)
	}
	return wait/2 + rand.N(wait)
}
