package nodelease

import (
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/service"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

// node is one of a living cluster whose kubelet was heard so long ago.
func node(silent time.Duration, change ...func(*Node)) Node {
	n := Node{
		Name: "n1", Listed: true, Kubelet: Kubelet{Heard: ago(silent), Promise: 40 * time.Second},
		Lease: Lease{Held: true, Status: service.Passing, Index: 7},
	}
	for _, c := range change {
		c(&n)
	}
	return n
}

func unanswered(n int) func(*Node) { return func(node *Node) { node.Agent.Unanswered = n } }

func asked(since time.Duration) func(*Node) {
	return func(node *Node) { node.Lease.Asked, node.Agent.Asked = true, ago(since) }
}

func heard(since time.Duration, inConsul bool) func(*Node) {
	return func(node *Node) { node.Agent.Heard, node.Agent.InConsul = ago(since), inConsul }
}

func expired(n *Node) { n.Lease.Status = service.Critical }

func deleted(since time.Duration) func(*Node) {
	return func(n *Node) { n.Listed, n.Deleted = false, ago(since) }
}

// others are so many more nodes that live.
func others(n int) []Node {
	var nodes []Node
	for i := range n {
		other := node(5 * time.Second)
		other.Name = "other-" + string(rune('a'+i))
		nodes = append(nodes, other)
	}
	return nodes
}

func TestOneNode(t *testing.T) {
	t.Parallel()
	silent := func(n *Node) { unanswered(3)(n); asked(10 * time.Second)(n) } // nothing is heard of its agent
	taint := func(n *Node) { n.OutOfService = true }
	for name, tt := range map[string]struct {
		node   Node
		act    Act
		reason Reason
	}{
		"kubelet renews":                      {node(10 * time.Second), Nothing, Alive},
		"one renewal late, agent long silent": {node(24*time.Second, silent), Nothing, Alive},
		"nothing published":                   {node(time.Hour, func(n *Node) { n.Lease = Lease{} }), Nothing, Unpublished},
		"kubelet late":                        {node(25 * time.Second), Listen, AgentSilent},
		"agent answers":                       {node(time.Hour, heard(time.Second, false)), Listen, AgentAnswers},
		"agent answers, not each time":        {node(time.Hour, heard(2*time.Second, false), unanswered(2)), Listen, AgentAnswers},
		"agent answers no more":               {node(time.Hour, heard(9*time.Second, false), unanswered(3)), Ask, WaitingForAnswer},
		"agent silent twice":                  {node(time.Hour, unanswered(2)), Listen, AgentSilent},
		"agent silent":                        {node(30*time.Second, unanswered(3)), Ask, WaitingForAnswer},
		"agent silent, kubelet not for long":  {node(29*time.Second, unanswered(9)), Listen, AgentSilent},
		"asked by another":                    {node(30*time.Second, unanswered(3), func(n *Node) { n.Lease.Asked = true }), Listen, WaitingForAnswer},
		"asked":                               {node(time.Hour, unanswered(9), asked(9*time.Second)), Listen, WaitingForAnswer},
		"no answer, kubelet not overdue":      {node(39*time.Second, silent), Listen, AgentSilent},
		"no answer, kubelet overdue":          {node(40*time.Second, silent), Expire, Dead},
		"answered in Consul":                  {node(time.Hour, unanswered(9), heard(59*time.Second, true)), Listen, AgentAnswers},
		"answered in Consul long ago":         {node(time.Hour, unanswered(99), heard(time.Minute, true)), Ask, WaitingForAnswer},
		"expired":                             {node(time.Hour, silent, expired), Nothing, Expired},
		"expired, and back":                   {node(time.Second, expired), Nothing, Expired},
		"short promise":                       {node(10*time.Second, silent, func(n *Node) { n.Kubelet.Promise = 10 * time.Second }), Expire, Dead},
		"no Lease":                            {node(0, silent, func(n *Node) { n.Kubelet = Kubelet{} }), Nothing, Unknown},
		"no Lease, and lost":                  {node(0, silent, func(n *Node) { n.Kubelet, n.Lost = Kubelet{}, true }), Expire, Dead},
		"lost, says who is behind":            {node(time.Second, silent, func(n *Node) { n.Lost = true }), Nothing, Alive},
		"said to be off":                      {node(15*time.Second, silent, taint), Expire, Dead},
		"said to be off, asked nothing":       {node(15*time.Second, taint), Listen, AgentSilent},
		"said to be off, agent answers":       {node(time.Hour, taint, heard(time.Second, false)), Listen, AgentAnswers},
		"said to be off, kubelet renews":      {node(14*time.Second, silent, taint), Nothing, Alive},
		"not listed":                          {node(time.Hour, silent, func(n *Node) { n.Listed = false }), Confirm, Unknown},
		"not listed, expired":                 {node(time.Hour, expired, func(n *Node) { n.Listed = false }), Confirm, Unknown},
		"deleted":                             {node(15*time.Second, silent, deleted(time.Second)), Expire, Dead},
		"deleted, never a Lease":              {node(0, silent, deleted(time.Second), func(n *Node) { n.Kubelet = Kubelet{} }), Expire, Dead},
		"deleted, agent answers":              {node(time.Hour, deleted(9*time.Hour), heard(time.Second, false)), Listen, AgentAnswers},
		"deleted, just now":                   {node(time.Hour, expired, deleted(59*time.Minute)), Nothing, Expired},
		"deleted long ago":                    {node(time.Hour, expired, deleted(time.Hour)), Remove, Gone},
		"deleted long ago, not expired":       {node(9*time.Hour, silent, deleted(9*time.Hour)), Expire, Dead},
	} {
		plan := Decide(Input{Now: now, Observed: true, Nodes: append(others(2), tt.node), MaxDead: 0.5, Forget: time.Hour})
		got := plan.Decisions[0]
		if got.Node != "n1" || got.Act != tt.act || got.Reason != tt.reason || got.Says == "" {
			t.Errorf("%s: %+v; want act %q, reason %s", name, got, tt.act, tt.reason)
		}
		if got.Act.Doubtful() && plan.Next != time.Second {
			t.Errorf("%s: in doubt, and looks again in %s", name, plan.Next)
		}
	}
}

// A control plane that is away, or an observer that was, says nothing of nodes.
func TestI1UnobservedKubeletsAreNotDead(t *testing.T) {
	t.Parallel()
	for _, n := range []Node{
		node(time.Hour, unanswered(9), asked(time.Minute)),
		node(time.Hour, unanswered(9), asked(time.Minute), deleted(time.Hour)),
		node(time.Hour, unanswered(9), asked(time.Minute), func(n *Node) { n.OutOfService = true }),
	} {
		got := Decide(Input{Now: now, Observed: false, Nodes: []Node{n}, MaxDead: 1}).Decisions[0]
		if got.Act != Nothing || got.Reason != Unobserved {
			t.Errorf("%+v: %+v", n, got)
		}
	}
}

// Many that look dead at once are not believed to be. Those of which somebody
// who knows has said so are, and do not count.
func TestI1ManyDeadNodesAreFrozen(t *testing.T) {
	t.Parallel()
	dead := func(name string, change ...func(*Node)) Node {
		n := node(time.Hour, append(change, unanswered(3), asked(time.Minute))...)
		n.Name = name
		return n
	}
	for name, tt := range map[string]struct {
		nodes  []Node
		frozen int
		acts   int
	}{
		"one of two":             {append(others(1), dead("n1")), 0, 1},
		"two of three":           {append(others(1), dead("n1"), dead("n2")), 2, 0},
		"two of four":            {append(others(2), dead("n1"), dead("n2")), 0, 2},
		"the only one":           {[]Node{dead("n1")}, 1, 0},
		"one after another":      {append(others(1), dead("n1"), dead("n2", expired)), 1, 0},
		"one that is back":       {append(others(1), dead("n1"), node(time.Second, expired)), 0, 1},
		"one of them was said":   {append(others(1), dead("n1"), dead("n2", func(n *Node) { n.OutOfService = true })), 0, 2},
		"one of them is deleted": {append(others(1), dead("n1"), dead("n2", deleted(time.Minute))), 0, 2},
		"all were said":          {[]Node{dead("n1", deleted(time.Minute)), dead("n2", deleted(time.Minute))}, 0, 2},
	} {
		plan := Decide(Input{Now: now, Observed: true, Nodes: tt.nodes, MaxDead: 0.5, Forget: time.Hour})
		frozen, acts := 0, 0
		for _, d := range plan.Decisions {
			switch {
			case d.Reason == Frozen && d.Act == Listen && strings.Contains(d.Says, "look dead at once"):
				frozen++
			case d.Act == Expire:
				acts++
			}
		}
		if frozen != tt.frozen || acts != tt.acts || (plan.Mass != "") != (frozen > 0) {
			t.Errorf("%s: %d frozen, %d expire, mass %q; want %d, %d", name, frozen, acts, plan.Mass, tt.frozen, tt.acts)
		}
		for _, d := range Decide(Input{Now: now, Observed: true, Nodes: tt.nodes, MaxDead: 1, Forget: time.Hour}).Decisions {
			if d.Reason == Frozen {
				t.Errorf("%s: frozen although all may look dead: %+v", name, d)
			}
		}
	}
}

func TestAgentSignsOfLife(t *testing.T) {
	t.Parallel()
	passing := Lease{Held: true, Status: service.Passing, Index: 7}
	question := Lease{Held: true, Status: service.Passing, Asked: true, Index: 8}
	answer := Lease{Held: true, Status: service.Passing, Index: 9}
	lapsed := Lease{Held: true, Status: service.Critical, Index: 10}
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }

	a := Agent{}.Probed(false, at(0)).Read(passing, at(0)).Probed(false, at(1)).Read(question, at(1))
	if a.Unanswered != 2 || !a.Heard.IsZero() || a.Asked != at(1) {
		t.Errorf("asked: %+v", a)
	}
	if b := a.Read(question, at(4)); b.Asked != at(1) {
		t.Errorf("the question stands: %+v", b)
	}
	if b := a.Read(question, at(7)); b.Asked != at(7) {
		t.Errorf("the question stood unseen: %+v", b)
	}
	if b := a.Unread().Read(question, at(2)); b.Asked != at(2) {
		t.Errorf("Consul was away: %+v", b)
	}
	if b := a.Read(answer, at(2)); !b.Asked.IsZero() || b.Heard != at(2) || !b.InConsul {
		t.Errorf("answered: %+v", b)
	}
	if b := a.Read(answer, at(2)).Read(Lease{Held: true, Status: service.Passing, Asked: true, Index: 11}, at(3)); b.Asked != at(3) {
		t.Errorf("asked again: %+v", b)
	}
	if b := a.Read(lapsed, at(2)); !b.Heard.IsZero() {
		t.Errorf("expired by somebody is no sign of life: %+v", b)
	}
	if b := a.Read(lapsed, at(2)).Read(Lease{Held: true, Status: service.Passing, Index: 12}, at(3)); b.Heard != at(3) {
		t.Errorf("taken back: %+v", b)
	}
	if b := a.Probed(true, at(2)); b.Unanswered != 0 || b.Heard != at(2) || b.InConsul {
		t.Errorf("answered at its port: %+v", b)
	}
	if b := (Agent{}).Read(answer, at(0)); !b.Heard.IsZero() {
		t.Errorf("the first look is no sign of life: %+v", b)
	}
}
