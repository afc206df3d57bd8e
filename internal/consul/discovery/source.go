// Package discovery follows services of Consul as its servers give them to
// clients: which services there are, and the instances of each.
//
// A question is held open by the servers until there is news (a blocking query),
// and is asked again at once, so that at rest there is one held question for each
// service and next to no traffic. Each holds a connection, of which Consul allows a
// client 200 (http_max_conns_per_client). So only so many are held at a time as a
// Source is told; if there are more questions they take turns.
//
// The answers are the leader's. Its own copy is asked for by near=_agent: without
// that a server answers a held question about a service from a stream that it takes
// from any of the servers, which is late, and is not consistent.
package discovery

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consulimport"
)

const (
	// holdFor is how long a question is held at most. A connection whose server
	// lost its power shows that by no sign but the time.
	holdFor = 30 * time.Second
	// roundWithin is how long it takes until all questions had their turn, where
	// there are more than can be held.
	roundWithin = 10 * time.Second
	// leastHold bounds the requests where there are very many questions.
	leastHold = 500 * time.Millisecond
)

// Source is what Consul says of services. Follow says of which.
type Source struct {
	client *consul.Client
	holds  chan struct{} // a place for each question that is held
	// changed and wanted have room for one value each.
	changed, wanted chan struct{}

	mu      sync.Mutex
	follows map[question]time.Time // with the time before which an answer is no use
	running map[question]*follower
	replies map[question]reply
}

// New makes a Source that holds so many questions open at a time. It asks nothing
// before Run.
func New(client *consul.Client, holds int) (*Source, error) {
	if holds < 1 {
		return nil, fmt.Errorf("questions held at a time: %d, must be 1 or more", holds)
	}
	apart, err := client.Apart(holds)
	if err != nil {
		return nil, err
	}
	return &Source{
		client: apart, holds: make(chan struct{}, holds), changed: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
		follows: map[question]time.Time{}, running: map[question]*follower{}, replies: map[question]reply{},
	}, nil
}

// Changed gets a value after Consul has said something else than before; many
// changes make one value. It is for one reader.
func (s *Source) Changed() <-chan struct{} { return s.changed }

// View is what Consul has said last of all that is followed. What was not answered
// yet is missing.
func (s *Source) View() (map[consulimport.Where]consulimport.Listing, map[consulimport.Origin]consulimport.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	listings := map[consulimport.Where]consulimport.Listing{}
	answers := make(map[consulimport.Origin]consulimport.Answer, len(s.replies))
	for q, r := range s.replies {
		if q.listing() {
			listings[q.Where] = consulimport.Listing{Read: r.Read, Names: r.names}
		} else {
			answers[consulimport.Origin(q)] = consulimport.Answer{Read: r.Read, Instances: r.instances}
		}
	}
	return listings, answers
}

// Follow says what is asked from now on; nothing else is.
func (s *Source) Follow(listings []consulimport.Where, answers []consulimport.Origin, again []consulimport.Question) {
	follows := make(map[question]time.Time, len(listings)+len(answers))
	for _, where := range listings {
		follows[question{Where: where}] = time.Time{}
	}
	for _, origin := range answers {
		follows[question(origin)] = time.Time{}
	}
	for _, q := range again {
		follows[question(q.Origin)] = q.After
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if maps.Equal(follows, s.follows) {
		return
	}
	s.follows = follows
	notify(s.wanted)
}

// Run asks until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		s.mu.Lock()
		s.reconcile(ctx, &all)
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wanted:
		}
	}
}

// reconcile ends the followers that are not wanted any more, and begins those that
// are. The caller holds mu.
func (s *Source) reconcile(ctx context.Context, all *sync.WaitGroup) {
	for q, f := range s.running {
		if _, wanted := s.follows[q]; wanted {
			continue
		}
		f.end()
		delete(s.running, q)
		delete(s.replies, q)
	}
	for q, after := range s.follows {
		f, runs := s.running[q]
		if !runs {
			f = &follower{question: q, source: s}
			following, end := context.WithCancel(ctx)
			f.end, s.running[q] = end, f
			all.Go(func() { f.run(following) })
		}
		f.askAfter(after)
	}
}

// hold is how long a question may be held now.
func (s *Source) hold() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.running) <= cap(s.holds) {
		return holdFor
	}
	return max(leastHold, roundWithin*time.Duration(cap(s.holds))/time.Duration(len(s.running)))
}

// take notes a reply, and tells the reader if it is news: the second one that says
// the same is if it was asked for.
func (s *Source) take(f *follower, now reply, confirms bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[f.question] != f {
		return // it has ended meanwhile
	}
	before, known := s.replies[f.question]
	s.replies[f.question] = now
	if !known || confirms || !now.sameAs(before) {
		notify(s.changed)
	}
}

func notify(reader chan struct{}) {
	select {
	case reader <- struct{}{}:
	default: // it has yet to look, and will see this too
	}
}
