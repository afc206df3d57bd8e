package podset

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"fairway.dev/fairway/internal/service"
)

// at is second n of the tests' day.
func at(n int) time.Time { return time.Date(2026, 11, 21, 3, 0, n, 0, time.UTC) }

// sighting is a pod made at second 1, ready or not since second 10, and seen
// then. edit changes it.
func sighting(ready bool, edit func(*Sighting)) Sighting {
	s := Sighting{
		Pod: service.Pod{
			Ref:             service.PodRef{Namespace: "shop", Name: "web-1", UID: "u1"},
			Addresses:       []netip.Addr{netip.MustParseAddr("198.18.64.7")},
			Phase:           service.PhaseRunning,
			ContainersReady: ready, ContainersReadySince: at(10), AllRunning: true,
		},
		Created: at(1), Seen: at(10),
	}
	if edit != nil {
		edit(&s)
	}
	return s
}

// Who is believed about one life that both sides know.
func TestJoinOneLife(t *testing.T) {
	ready := sighting(true, nil)
	unready := func(since, seen int) Sighting {
		return sighting(false, func(s *Sighting) { s.Pod.ContainersReadySince, s.Seen = at(since), at(seen) })
	}
	annotated := func(value string) func(*Sighting) {
		return func(s *Sighting) { s.Pod.Annotations = map[string]string{"a": value} }
	}
	for name, c := range map[string]struct {
		kubelet, api Sighting
		silent       bool // the kubelet
		want         func(service.Pod) bool
	}{
		"the kubelet's readiness while it answers": {unready(20, 20), ready, false,
			func(p service.Pod) bool { return !p.ContainersReady && p.ContainersReadySince.Equal(at(20)) }},
		"also if the API server's is of a later second": {ready, unready(20, 20), false,
			func(p service.Pod) bool { return p.ContainersReady }},
		"a silent kubelet's last word stands": {unready(20, 20), ready, true,
			func(p service.Pod) bool { return !p.ContainersReady }},
		"also if the API server repeats what is older": {unready(20, 20), sighting(true, func(s *Sighting) { s.Seen = at(30) }), true,
			func(p service.Pod) bool { return !p.ContainersReady }},
		"until the API server has a newer one": {ready, unready(20, 21), true,
			func(p service.Pod) bool { return !p.ContainersReady }},
		"of one second, the word that came last": {ready, unready(10, 11), true,
			func(p service.Pod) bool { return !p.ContainersReady }},
		"of one second, the kubelet's if it came last": {unready(10, 12), sighting(true, func(s *Sighting) { s.Seen = at(11) }), true,
			func(p service.Pod) bool { return !p.ContainersReady }},
		"annotations of the API server": {sighting(true, annotated("old")), sighting(true, annotated("new")), false,
			func(p service.Pod) bool { return p.Annotations["a"] == "new" }},
		"gates of the API server": {ready, sighting(true, func(s *Sighting) { s.Pod.Gates = []service.Gate{{Type: "lb", Open: true}} }), false,
			func(p service.Pod) bool { return len(p.Gates) == 1 && p.Gates[0].Open }},
		"terminating by the API server": {ready, sighting(true, func(s *Sighting) { s.Pod.Terminating = true }), false,
			func(p service.Pod) bool { return p.Terminating && p.ContainersReady }},
		"terminating by the kubelet": {sighting(true, func(s *Sighting) { s.Pod.Terminating = true }), ready, false,
			func(p service.Pod) bool { return p.Terminating }},
		"terminating by a silent kubelet": {sighting(true, func(s *Sighting) { s.Pod.Terminating = true }), unready(20, 21), true,
			func(p service.Pod) bool { return p.Terminating && !p.ContainersReady }},
		"ended by the API server": {ready, sighting(true, func(s *Sighting) { s.Pod.Phase = service.PhaseFailed }), false,
			func(p service.Pod) bool { return p.Phase == service.PhaseFailed }},
		"ended by the kubelet": {sighting(false, func(s *Sighting) { s.Pod.Phase = service.PhaseSucceeded }), ready, true,
			func(p service.Pod) bool { return p.Phase == service.PhaseSucceeded }},
		"an address, from whoever has one": {sighting(true, func(s *Sighting) { s.Pod.Addresses = nil }), ready, false,
			func(p service.Pod) bool { return len(p.Addresses) == 1 }},
	} {
		t.Run(name, func(t *testing.T) {
			view := Join(Side{Live: !c.silent, Pods: []Sighting{c.kubelet}}, Side{Live: true, Pods: []Sighting{c.api}})
			if len(view.Pods) != 1 || len(view.Replaced) != 0 || !c.want(view.Pods[0]) {
				t.Errorf("got %+v", view)
			}
		})
	}
}

// A pod that was deleted while nobody watched must not stay because a kubelet
// that is silent since once knew it.
func TestJoinAsksAboutWhatASilentKubeletKnew(t *testing.T) {
	known := []Sighting{sighting(true, nil)}
	for name, c := range map[string]struct {
		kubelet, api bool // answers
		pods         int
	}{
		"both answer":            {true, true, 1},
		"only the kubelet":       {true, false, 1},
		"only the API server":    {false, true, 0},
		"neither: nobody to ask": {false, false, 1},
	} {
		view := Join(Side{Live: c.kubelet, Pods: known}, Side{Live: c.api})
		if len(view.Pods) != c.pods || len(view.Replaced) != 0 {
			t.Errorf("%s: %+v", name, view)
		}
	}
}

// What one side knows to be over does not come back by the other, which may
// know it as it was before.
func TestJoinWhatIsGone(t *testing.T) {
	known, gone := Side{Pods: []Sighting{sighting(true, nil)}}, Side{Live: true, Gone: map[string]string{"u1": "it has ended"}}
	for _, sides := range [][2]Side{{known, gone}, {gone, known}} {
		if view := Join(sides[0], sides[1]); len(view.Pods) != 0 {
			t.Errorf("shown: %+v", view.Pods)
		}
	}
}

// Which pods there are, and which lives are over.
func TestJoinManyLives(t *testing.T) {
	life := func(name, uid string, created int) Sighting {
		return sighting(true, func(s *Sighting) {
			s.Pod.Ref.Name, s.Pod.Ref.UID, s.Created = name, uid, at(created)
		})
	}
	type side = []Sighting
	for name, c := range map[string]struct {
		kubelet, api side
		pods         []string // by UID
		replaced     []string
	}{
		"nobody knows any":            {},
		"only the kubelet answers":    {side{life("a", "1", 1)}, nil, []string{"1"}, nil},
		"only the API server answers": {nil, side{life("a", "1", 1)}, []string{"1"}, nil},
		"each knows another pod":      {side{life("a", "1", 1)}, side{life("b", "2", 1)}, []string{"1", "2"}, nil},
		"the kubelet has an old life": {side{life("a", "1", 1)}, side{life("a", "2", 5)}, []string{"2"}, []string{"1"}},
		"the API server is behind":    {side{life("a", "2", 5)}, side{life("a", "1", 1)}, []string{"2"}, []string{"1"}},
		"two lives of one second":     {side{life("a", "2", 5)}, side{life("a", "1", 5)}, []string{"1", "2"}, nil},
		"three lives":                 {side{life("a", "1", 1), life("a", "2", 5)}, side{life("a", "2", 5), life("a", "3", 9)}, []string{"3"}, []string{"1", "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			view := Join(Side{Live: true, Pods: c.kubelet}, Side{Live: true, Pods: c.api})
			var pods, replaced []string
			for _, pod := range view.Pods {
				pods = append(pods, pod.Ref.UID)
			}
			for uid, why := range view.Replaced {
				if why == "" {
					t.Errorf("no proof for %s", uid)
				}
				replaced = append(replaced, uid)
			}
			if diff := cmp.Diff(c.pods, pods); diff != "" {
				t.Errorf("pods (-want +got):\n%s", diff)
			}
			less := cmpopts.SortSlices(func(a, b string) bool { return a < b })
			if diff := cmp.Diff(c.replaced, replaced, less); diff != "" {
				t.Errorf("replaced (-want +got):\n%s", diff)
			}
		})
	}
}

// That a pod leaves is not taken back, whoever said so.
func TestLeavingLasts(t *testing.T) {
	now := sighting(true, nil).Pod
	for name, leave := range map[string]func(*service.Pod){
		"terminates": func(p *service.Pod) { p.Terminating = true },
		"has ended":  func(p *service.Pod) { p.Phase = service.PhaseSucceeded },
	} {
		shown := sighting(true, nil).Pod
		leave(&shown)
		pods, again := Settle(map[string]service.Pod{"u1": shown}, []service.Pod{now}, Settling{}, at(20), false)
		if health, _ := pods[0].Status(); health != service.Critical || !again.IsZero() {
			t.Errorf("%s: %+v", name, pods[0])
		}
	}
}

// A list of the API server that lacks a pod does not bring back the kubelet's
// older copy of its annotations.
func TestI1ALackingListTakesNoAnnotationBack(t *testing.T) {
	annotated := func(names string) Sighting {
		return sighting(true, func(s *Sighting) { s.Pod.Annotations = map[string]string{"names": names} })
	}
	unready := annotated("web")
	unready.Pod.ContainersReady = false
	shown := Join(Side{Live: true, Pods: []Sighting{annotated("web")}}, Side{Live: true, Pods: []Sighting{annotated("web,api")}}).Pods[0]
	lacking := Join(Side{Live: true, Pods: []Sighting{unready}}, Side{Live: true}).Pods
	pods, _ := Settle(map[string]service.Pod{"u1": shown}, lacking, Settling{}, at(20), false)
	if len(pods) != 1 || pods[0].Annotations["names"] != "web,api" || pods[0].ContainersReady {
		t.Errorf("%+v; want the API server's annotations with the kubelet's readiness", pods)
	}
	pods, _ = Settle(map[string]service.Pod{}, lacking, Settling{}, at(20), false)
	if len(pods) != 1 || pods[0].Annotations["names"] != "web" {
		t.Errorf("%+v; want the kubelet's annotations of a pod of which the API server has said nothing", pods)
	}
}

// A kubelet that restarts makes nobody unready who has not stopped, for a while.
func TestSettle(t *testing.T) {
	ready := sighting(true, nil).Pod
	unready := func(edit func(*service.Pod)) service.Pod {
		pod := sighting(false, func(s *Sighting) { s.Pod.ContainersReadySince = at(21) }).Pod
		if edit != nil {
			edit(&pod)
		}
		return pod
	}
	restart, end := Restarted(at(20)), at(20).Add(SettleFor)
	for name, c := range map[string]struct {
		shown, now service.Pod
		restart    Settling
		at         time.Time
		held       bool
	}{
		"only unready":            {ready, unready(nil), restart, at(21), true},
		"until its time is over":  {ready, unready(nil), restart, end.Add(-1), true},
		"its time is over":        {ready, unready(nil), restart, end, false},
		"no restart was seen":     {ready, unready(nil), Settling{}, at(21), false},
		"was not ready before":    {unready(nil), unready(nil), restart, at(21), false},
		"was not there before":    {service.Pod{}, unready(nil), restart, at(21), false},
		"terminates":              {ready, unready(func(p *service.Pod) { p.Terminating = true }), restart, at(21), false},
		"has ended":               {ready, unready(func(p *service.Pod) { p.Phase = service.PhaseFailed }), restart, at(21), false},
		"a container has stopped": {ready, unready(func(p *service.Pod) { p.AllRunning = false }), restart, at(21), false},
		"a container was started": {ready, unready(func(p *service.Pod) { p.Restarts = 1 }), restart, at(21), false},
	} {
		t.Run(name, func(t *testing.T) {
			pods, again := Settle(map[string]service.Pod{c.shown.Ref.UID: c.shown}, []service.Pod{c.now}, c.restart, c.at, false)
			if len(pods) != 1 || pods[0].ContainersReady != c.held || (pods[0].HeldReady != "") != c.held {
				t.Fatalf("got %+v", pods)
			}
			health, notes := pods[0].Status()
			if c.held && (health != service.Passing || notes != pods[0].HeldReady || !again.Equal(end)) {
				t.Errorf("health %s (%s), again at %s", health, notes, again)
			}
			if !c.held && (health == service.Passing || !again.IsZero()) {
				t.Errorf("health %s (%s), again at %s", health, notes, again)
			}
		})
	}
}

// A kubelet that remembers forgets those that have just started, and those that the
// API server does not have Ready; of the others its word counts at once.
func TestSettleOfAKubeletThatRemembers(t *testing.T) {
	restart, unready := Restarted(at(20)), sighting(false, func(s *Sighting) { s.Pod.ContainersReadySince = at(21) }).Pod
	for name, c := range map[string]struct {
		ready bool // at the API server
		since time.Time
		held  bool
	}{
		"long ready":        {true, at(-1), false},
		"has just started":  {true, at(10), true},
		"has a closed gate": {false, at(-1), true},
		"its node was away": {false, at(-60), true},
	} {
		shown := sighting(true, func(s *Sighting) { s.Pod.Ready, s.Pod.ContainersReadySince = c.ready, c.since }).Pod
		for look := range 3 { // and the API server has heard of it
			pods, _ := Settle(map[string]service.Pod{"u1": shown}, []service.Pod{unready}, restart, at(21+look), true)
			if shown = pods[0]; shown.ContainersReady != c.held {
				t.Errorf("%s: look %d: %+v", name, look, shown)
			}
		}
		if pods, again := Settle(map[string]service.Pod{"u1": shown}, []service.Pod{unready}, restart, at(20).Add(SettleFor), true); pods[0].ContainersReady || !again.IsZero() {
			t.Errorf("%s: when its time is over: %+v", name, pods[0])
		}
	}
}

// While nobody can say what its probes find the kubelet's time does not begin.
func TestSettleWhileNobodyAnswers(t *testing.T) {
	ready, unready := sighting(true, nil).Pod, sighting(false, func(s *Sighting) { s.Pod.ContainersReadySince = at(21) }).Pod
	held := func(s Settling, at time.Time) bool {
		pods, again := Settle(map[string]service.Pod{"u1": ready}, []service.Pod{unready}, s, at, true)
		if silent := pods[0].HeldReady != "" && again.IsZero(); silent != s.unheard {
			t.Errorf("at %s: again at %s: %+v", at, again, pods[0])
		}
		return pods[0].ContainersReady
	}
	back := at(20).Add(time.Hour)
	s := Restarted(at(20)).Heard(true, at(20)).Heard(false, at(30))
	if !held(s, back) {
		t.Error("it is not held while nobody answers")
	}
	s = s.Heard(false, back).Heard(true, back).Heard(true, back.Add(SettleFor/2))
	if !held(s, back.Add(SettleFor-1)) || held(s, back.Add(SettleFor)) {
		t.Error("the time is not that since somebody answers")
	}
	for name, s := range map[string]Settling{
		"it has settled":    s.Heard(false, back.Add(SettleFor)),
		"it never was gone": Settling{}.Heard(false, at(20)).Heard(true, at(21)),
	} {
		if held(s, back.Add(SettleFor)) {
			t.Errorf("%s, and nobody answers: it is held", name)
		}
	}
}
