package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/katalogsync"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

const (
	// successionEvery is how often the node's Consul agent is asked for what
	// katalog-sync has there, while there is something to hand over.
	successionEvery = time.Second
	// successionPace is the shortest time between two looks while pods change.
	successionPace = 200 * time.Millisecond
	// successionTimeout bounds each step of a pass.
	successionTimeout = 15 * time.Second
	// successionPatience is how long an entry may stand as it should not before an
	// Event on the pod says so: both sides have to start first.
	successionPatience = 30 * time.Second
)

// The reasons of the Events about a change between katalog-sync and Fairway.
const (
	eventTakenOver  = "TakenOver"
	eventHandedBack = "HandedBack"
	eventNotCovered = "NotCovered"
	eventNotHanded  = "NotHandedBack"
)

// successor hands pods over between katalog-sync and Fairway, in the direction
// that the operator has asked for. It removes katalog-sync's entries itself; what
// is to become of Fairway's own it notes on the board for the publisher. It is a
// loop of its own, and there is none unless it was asked for.
type successor struct {
	mode          succession.Mode
	cluster, node string
	checkTTL      time.Duration
	resync        time.Duration

	source  podSource
	changed <-chan struct{}
	theirs  katalogEntries
	servers lookup
	writer  podWriter
	board   *board
	log     *slog.Logger
	metrics *metrics
	pulse   *process.Pulse

	// The loop's own.
	asked    time.Time                    // when the servers were asked last
	answer   succession.Servers           // what they said
	yielded  map[string]bool              // by ID of ours
	absent   map[service.PodRef]*question // about pods without UID
	standing map[string]*stay             // by ID
	failing  string                       // why katalog-sync's entries cannot be read
	renewing time.Time                    // since when katalog-sync renews any of them; zero if it does not
}

// stay is since when an entry stands as it does.
type stay struct {
	state  succession.State
	reason string
	since  time.Time
	told   bool // an Event has said so
}

// run works until ctx ends.
func (s *successor) run(ctx context.Context) error {
	s.answer.Unknown = "they were not asked yet"
	s.yielded, s.absent, s.standing = map[string]bool{}, map[service.PodRef]*question{}, map[string]*stay{}
	for {
		s.pulse.Beat()
		wait := s.pass(ctx)
		s.pulse.Rest()

		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-s.changed:
			pause(ctx, successionPace)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass is one turn. It returns when the next is due if nothing happens before.
func (s *successor) pass(ctx context.Context) time.Duration {
	pods, synced := s.source.Snapshot()
	if !synced {
		return s.resync // the source tells when it is
	}
	input, ok := s.observe(ctx, pods)
	if !ok {
		return successionEvery
	}
	verdicts := s.decide(input)
	if names := s.worthAsking(verdicts); len(names) > 0 {
		bounded, cancel := context.WithTimeout(ctx, successionTimeout)
		s.answer, s.asked = s.servers.Lookup(bounded, names), time.Now()
		cancel()
		input.Servers = s.answer
		verdicts = s.decide(input)
	}
	if ctx.Err() != nil {
		return 0
	}
	s.show(verdicts, input)
	s.act(ctx, verdicts, input.Pods)
	if len(input.Theirs) == 0 && s.mode == succession.Successor {
		return s.resync
	}
	return successionEvery
}

// observe is the picture from which to decide, with what the servers said last.
func (s *successor) observe(ctx context.Context, pods []service.Pod) (succession.Input, bool) {
	bounded, cancel := context.WithTimeout(ctx, successionTimeout)
	defer cancel()
	theirs, err := s.theirs.Observe(bounded)
	if err != nil {
		if reason := consul.Reason(err); ctx.Err() == nil && reason != s.failing {
			s.failing = reason
			s.log.Warn("katalog-sync's entries cannot be read; nothing is handed over", "reason", reason, "err", err)
			s.board.record.succeeds(nodeview.Succession{Mode: string(s.mode), Problem: reason})
		}
		return succession.Input{}, false
	}
	s.failing = ""
	input := succession.Input{Theirs: theirs, Servers: s.answer, Yielded: s.yielded}
	for _, pod := range pods {
		input.Pods = append(input.Pods, succession.Pod{
			Claim: registration.Want(pod, annotation.Parse(pod), s.cluster, s.node, s.checkTTL),
			Waits: len(pod.Closed(service.GateReachable)) > 0,
		})
	}
	input.Gone = s.proveAbsent(ctx, input)
	return input, true
}

func (s *successor) decide(input succession.Input) []succession.Verdict {
	if s.mode == succession.Predecessor {
		return succession.HandBack(input)
	}
	return succession.TakeOver(input)
}

// worthAsking are the services to ask the servers about now, all that they have
// a say in: at once if somebody waits for their answer, and else from time to
// time, to see whether all is still well.
func (s *successor) worthAsking(verdicts []succession.Verdict) []string {
	now := time.Since(s.asked) >= s.resync
	var names []string
	for _, v := range verdicts {
		if !v.Asks {
			continue
		}
		names = append(names, v.Service)
		now = now || v.State != succession.Covered
	}
	if !now {
		return nil
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// proveAbsent asks about the pods of entries whose pods are not on the list, again
// after longer and longer waits.
func (s *successor) proveAbsent(ctx context.Context, input succession.Input) map[service.PodRef]string {
	gone := map[service.PodRef]string{}
	if s.mode != succession.Successor {
		return gone
	}
	sought := map[service.PodRef]bool{}
	for _, v := range succession.TakeOver(input) {
		if !v.Unproven || sought[v.Pod] {
			continue
		}
		sought[v.Pod] = true
		q := s.absent[v.Pod]
		if q == nil {
			q = &question{wait: confirmFirst}
			s.absent[v.Pod] = q
		}
		if time.Now().Before(q.next) {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, confirmTimeout)
		absent, why, err := s.source.Absent(bounded, v.Pod)
		cancel()
		s.pulse.Beat()
		switch {
		case err != nil:
			s.log.Debug("whether the node has a pod could not be found out", "pod", v.Pod.String(), "err", err)
		case absent:
			gone[v.Pod] = why
		}
		q.next, q.wait = time.Now().Add(q.wait), min(2*q.wait, confirmLongest)
	}
	for pod := range s.absent {
		if !sought[pod] {
			delete(s.absent, pod)
		}
	}
	return gone
}

// act does what the verdicts allow.
func (s *successor) act(ctx context.Context, verdicts []succession.Verdict, pods []succession.Pod) {
	if s.mode == succession.Predecessor {
		s.yield(verdicts)
		return
	}
	for _, v := range verdicts {
		if v.State == succession.Superfluous && ctx.Err() == nil {
			s.remove(ctx, v, pods)
			s.pulse.Beat()
		}
	}
}

// remove removes one entry of katalog-sync. One that has begun is finished even
// if the process is asked to stop.
func (s *successor) remove(ctx context.Context, v succession.Verdict, pods []succession.Pod) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
	defer cancel()
	err := s.theirs.Remove(ctx, v.ID, v.Over)
	if errors.Is(err, katalogsync.ErrRenewed) {
		return // and that is how it will be seen next
	}
	s.metrics.katalogRemoved.WithLabelValues(result(err)).Inc()
	if err != nil {
		s.log.Warn("an entry of katalog-sync could not be removed; it is tried again", "id", v.ID, "err", err)
		return
	}
	s.log.Info("an entry of katalog-sync was removed", "id", v.ID, "service", v.Service,
		"pod", v.Pod.String(), "reason", v.Reason)
	if pod, ok := podOf(pods, v.Pod); ok {
		s.writer.Note(pod, eventTakenOver, fmt.Sprintf("removed what katalog-sync left of service %s: %s", v.Service, v.Reason))
	}
}

// yield tells the publisher which entries of ours katalog-sync's stand in the
// place of.
func (s *successor) yield(verdicts []succession.Verdict) {
	reasons := map[string]string{}
	for _, v := range verdicts {
		if v.State != succession.Yielded {
			continue
		}
		reasons[v.ID] = v.Reason
		// A process that begins finds what was handed back before.
		if _, ours := s.answer.Held[v.ID]; ours && !s.yielded[v.ID] {
			s.writer.Note(v.Pod, eventHandedBack, fmt.Sprintf("handed service %s back to katalog-sync: %s", v.Service, v.Reason))
		}
	}
	s.yielded = make(map[string]bool, len(reasons))
	for id := range reasons {
		s.yielded[id] = true
	}
	s.board.yield(reasons)
}

// show tells how the entries stand: each change in the log, all in metrics and in
// the agent's view, and what stands for long as it should not in an Event.
func (s *successor) show(verdicts []succession.Verdict, input succession.Input) {
	now := time.Now()
	if !slices.ContainsFunc(input.Theirs, func(e succession.Entry) bool { return !e.Expired }) {
		s.renewing = time.Time{}
	} else if s.renewing.IsZero() {
		s.renewing = now
	}
	counts := map[succession.State]int{}
	standing := make(map[string]*stay, len(verdicts))
	shown := make([]nodeview.Handover, 0, len(verdicts))
	for _, v := range verdicts {
		counts[v.State]++
		was := s.standing[v.ID]
		if was == nil || was.state != v.State || was.reason != v.Reason {
			s.log.Info("how an entry stands between katalog-sync and Fairway", "state", v.State, "id", v.ID,
				"service", v.Service, "pod", v.Pod.String(), "reason", v.Reason)
			was = &stay{state: v.State, reason: v.Reason, since: now}
		}
		standing[v.ID] = was
		shown = append(shown, nodeview.Handover{
			ID: v.ID, Service: v.Service, Pod: nodeview.Ref(v.Pod), State: string(v.State), Reason: v.Reason, Since: was.since,
		})
		if !was.told && now.Sub(was.since) >= successionPatience {
			was.told = s.complain(v, input.Pods, now)
		}
	}
	s.standing = standing
	for _, state := range statesOf(s.mode) {
		s.metrics.katalogEntries.WithLabelValues(string(state)).Set(float64(counts[state]))
	}
	s.board.record.succeeds(nodeview.Succession{Mode: string(s.mode), At: now, Entries: shown})
}

// complain tells on its pod of an entry that has stood for long as it should
// not, and tells whether it did.
func (s *successor) complain(v succession.Verdict, pods []succession.Pod, now time.Time) bool {
	pod, ok := podOf(pods, v.Pod)
	if !ok {
		return false // the log has said it
	}
	switch {
	case v.State == succession.Uncovered, v.State == succession.Waiting:
		s.writer.Warn(pod, eventNotCovered, fmt.Sprintf("Fairway does not stand in katalog-sync's place for service %s: %s", v.Service, v.Reason))
		return true
	case v.State == succession.Kept && !s.renewing.IsZero() && now.Sub(s.renewing) >= successionPatience:
		// Before it is there to be handed back to, nothing is wrong.
		s.writer.Warn(pod, eventNotHanded, fmt.Sprintf("katalog-sync does not stand in Fairway's place for service %s: %s", v.Service, v.Reason))
		return true
	}
	return false
}

// statesOf are the states in which an entry can be in a mode.
func statesOf(mode succession.Mode) []succession.State {
	if mode == succession.Predecessor {
		return []succession.State{succession.Yielded, succession.Kept}
	}
	return []succession.State{succession.Covered, succession.Uncovered, succession.Superfluous, succession.Waiting}
}

// podOf is the latest life of a pod, whose name alone katalog-sync knows.
func podOf(pods []succession.Pod, name service.PodRef) (found service.PodRef, ok bool) {
	for _, pod := range pods {
		if pod.Pod.Namespace == name.Namespace && pod.Pod.Name == name.Name && (!ok || !pod.Terminating) {
			found, ok = pod.Pod, true
		}
	}
	return found, ok
}
