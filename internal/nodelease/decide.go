package nodelease

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/service"
)

// Input is everything Decide looks at.
type Input struct {
	Now time.Time
	// Observed is what Kubelets says of itself.
	Observed bool
	// Nodes are those that the API server lists and those that have a virtual
	// node, each once. Both lists must be complete.
	Nodes []Node
	// MaxDead, from 0 to 1, is the largest share of the cluster's nodes that may
	// look dead and be believed to be; 1 is all.
	MaxDead float64
	// Forget is how long after its Node was deleted a virtual node is removed.
	Forget time.Duration
}

// Plan is what is to be done.
type Plan struct {
	Decisions []Decision // one for each node, by its name
	// Next is when to decide again if nothing happens before.
	Next time.Duration
	// Mass says how many nodes look dead of how many if that is too many to be
	// believed; else it is empty.
	Mass string
}

// Decide looks at all nodes.
func Decide(in Input) Plan {
	plan := Plan{Next: lookAgain}
	nodes := slices.SortedFunc(slices.Values(in.Nodes), func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	all, dead := 0, 0
	for _, node := range nodes {
		d := in.look(node)
		plan.Decisions = append(plan.Decisions, d)
		if node.Listed && node.said() == "" {
			all++
			if d.Act == Expire || d.Reason == Expired && in.silent(node) >= node.Kubelet.Promise {
				dead++
			}
		}
		plan.Next = min(plan.Next, in.next(node, d))
	}
	if float64(dead) > in.MaxDead*float64(all) {
		plan.Mass = fmt.Sprintf("%d of %d nodes look dead", dead, all)
	}
	for i, d := range plan.Decisions {
		if plan.Mass != "" && d.Act == Expire && nodes[i].said() == "" {
			plan.Decisions[i] = Decision{d.Node, Listen, Frozen, plan.Mass + " at once: " + d.Says}
		}
	}
	return plan
}

// said is how somebody who knows has said that the node is off; nothing if
// nobody has.
func (n Node) said() string {
	switch {
	case !n.Deleted.IsZero():
		return "its Node was deleted"
	case n.OutOfService:
		return "its Node is tainted out-of-service"
	}
	return ""
}

// silent is how long nothing was heard of the node's kubelet.
func (in Input) silent(n Node) time.Duration { return in.Now.Sub(n.Kubelet.Heard) }

// look is what is to be done about one node, whatever the others are like.
func (in Input) look(n Node) Decision {
	decide := func(act Act, reason Reason, format string, args ...any) Decision {
		return Decision{n.Name, act, reason, fmt.Sprintf(format, args...)}
	}
	switch {
	case !n.Lease.Held:
		return decide(Nothing, Unpublished, "nothing of it is in Consul")
	case !n.Listed && n.Deleted.IsZero():
		says := "the API server does not list it, which is no proof that it was deleted"
		if n.Unasked != "" {
			says += "; it could not be asked for that Node: " + n.Unasked
		}
		return decide(Confirm, Unknown, "%s", says)
	case n.Lease.Status == service.Critical:
		if !n.Deleted.IsZero() && in.Now.Sub(n.Deleted) >= in.Forget {
			return decide(Remove, Gone, "its Node was deleted %s ago, and its lease has expired", round(in.Now.Sub(n.Deleted)))
		}
		return decide(Nothing, Expired, "its lease has expired; its agent renews it when it is back")
	case !in.Observed:
		return decide(Nothing, Unobserved, "no kubelet has been heard of lately")
	}
	over, says := in.witness(n)
	if says == "" {
		return decide(Nothing, Alive, "its kubelet renews its Lease")
	}
	if !over && n.Kubelet.Heard.IsZero() {
		return decide(Nothing, Unknown, "%s", says)
	}
	return in.listen(n, over, says)
}

// witness is what speaks against the node in Kubernetes, nothing if nothing
// does. It is over if that is all that Kubernetes can say.
func (in Input) witness(n Node) (over bool, says string) {
	good, silent := n.Kubelet.Promise, in.silent(n)
	said := n.said()
	unheard := fmt.Sprintf("its kubelet has not renewed its Lease for %s", round(silent))
	switch {
	case n.Kubelet.Heard.IsZero() && said != "":
		return true, said
	case n.Kubelet.Heard.IsZero() && n.Lost:
		return true, "the control plane has lost its kubelet, which has no Lease"
	case n.Kubelet.Heard.IsZero():
		return false, "its kubelet has no Lease"
	case said != "" && !in.Now.Before(n.Kubelet.missedOne()):
		return true, said + ", and " + unheard
	case silent >= good:
		return true, unheard
	case !in.Now.Before(n.Kubelet.LateSince()):
		return false, unheard
	}
	return false, ""
}

// listen decides on a node whose kubelet is silent: by what its agent says.
func (in Input) listen(n Node, over bool, says string) Decision {
	decide := func(act Act, reason Reason, more string) Decision {
		return Decision{n.Name, act, reason, says + "; " + more}
	}
	a := n.Agent
	switch {
	case a.InConsul && in.Now.Sub(a.Heard) < askAgain:
		return decide(Listen, AgentAnswers, "its agent has answered in Consul")
	case !a.InConsul && !a.Heard.IsZero() && a.Unanswered < patience:
		return decide(Listen, AgentAnswers, "its agent answers")
	case a.Unanswered < patience:
		return decide(Listen, AgentSilent, "its agent is being asked")
	case !over && in.silent(n) < n.Kubelet.Promise*3/4:
		// An API server that is away is known to be by then, and costs no write.
		return decide(Listen, AgentSilent, "its agent does not answer at its port")
	case !n.Lease.Asked:
		return decide(Ask, WaitingForAnswer, "its agent does not answer at its port")
	case a.Asked.IsZero() || in.Now.Sub(a.Asked) < answerWithin:
		return decide(Listen, WaitingForAnswer, "its agent does not answer at its port, and was asked in Consul")
	case !over:
		return decide(Listen, AgentSilent, "its agent answers neither at its port nor in Consul")
	}
	return decide(Expire, Dead, "its agent answers neither at its port nor in Consul")
}

// next is when a node must be looked at again.
func (in Input) next(n Node, d Decision) time.Duration {
	switch {
	case d.Act.Doubtful():
		return doubtEvery
	case d.Act == Confirm, d.Reason == Unobserved:
		return 5 * doubtEvery
	case d.Reason == Alive && n.said() != "":
		return max(doubtEvery, n.Kubelet.missedOne().Sub(in.Now))
	case d.Reason == Alive, d.Reason == Unpublished && in.Now.Before(n.Kubelet.LateSince()):
		return max(doubtEvery, n.Kubelet.LateSince().Sub(in.Now))
	case d.Reason == Expired && n.Listed: // it may be back, and die again
		return 10 * doubtEvery
	case d.Reason == Expired && !n.Deleted.IsZero():
		return max(doubtEvery, in.Forget-in.Now.Sub(n.Deleted))
	}
	return lookAgain
}

func round(d time.Duration) time.Duration { return d.Round(time.Second) }
