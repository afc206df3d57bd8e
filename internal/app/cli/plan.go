package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/nodeview"
)

// nodePlan is what one agent would write.
type nodePlan struct {
	Node  string `json:"node"`
	Agent string `json:"agent"`
	// Problem is why the plan is not known; then there is none.
	Problem string         `json:"problem,omitempty"`
	Blocked string         `json:"blocked,omitempty"`
	Entries int            `json:"entries"`
	Plan    *nodeview.Plan `json:"plan,omitempty"`
}

// plans are what all that writes would write.
type plans struct {
	Nodes []nodePlan `json:"nodes"`
	// Controller is what the controller would write of Services, for what it does.
	Controller []controllerPlan `json:"controller,omitempty"`
}

func planCommand(access *access) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what the agents and the controller would write now, and why",
		Long: `plan asks each agent what it would write to Consul now: registrations, changes
of health and removals with their reasons, what it holds although no pod asks
for it, and what Consul does not take. An agent at rest has nothing to do.

Where the controller publishes Services or imports them, a line for each says how
much it would write; fairway services and fairway imports show each write.

Exit code: 0 nothing to do anywhere, 1 something is planned, held or refused,
2 not everything could be found out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			nodes, err := access.plans(ctx, node)
			if err != nil {
				return err
			}
			all := plans{Nodes: nodes}
			if node == "" {
				all.Controller = access.controllerPlans(ctx)
			}
			err = access.print(cmd.OutOrStdout(), all, func(out io.Writer) error {
				_, err := io.WriteString(out, planText(all, time.Now()))
				return err
			})
			return cmp.Or(err, verdict(planVerdict(all)))
		},
	}
	cmd.Flags().StringVar(&node, "node", node, "only the agent of this node, without the controller")
	return cmd
}

// plans asks the agents of all nodes, or of one.
func (a *access) plans(ctx context.Context, node string) ([]nodePlan, error) {
	client, err := a.kubernetes()
	if err != nil {
		return nil, err
	}
	pods, err := a.agents(ctx, client, node)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		where := ""
		if node != "" {
			where = " on node " + node
		}
		return nil, fmt.Errorf("namespace %s has no agent%s; see fairway doctor", a.FairwayNamespace, where)
	}
	var nodes []nodePlan
	for _, agent := range a.nodeAgents(ctx, client, pods) {
		nodes = append(nodes, planOf(agent))
	}
	return nodes, nil
}

func planOf(agent diagnosis.NodeAgent) nodePlan {
	p := nodePlan{Node: agent.Node, Agent: agent.Name, Problem: agent.ViewProblem}
	if view := agent.View; view != nil {
		p.Blocked, p.Entries, p.Plan = view.Blocked, len(view.Entries), &view.Plan
	}
	return p
}

// planVerdict tells whether there is nothing to do, and whether that is known.
func planVerdict(all plans) (fine, known bool) {
	fine = !slices.ContainsFunc(all.Nodes, func(p nodePlan) bool { return p.Plan != nil && !p.Plan.Empty() }) &&
		!slices.ContainsFunc(all.Controller, func(p controllerPlan) bool { return !p.empty() })
	known = !slices.ContainsFunc(all.Nodes, func(p nodePlan) bool {
		return p.Plan == nil || p.Blocked != "" || p.Plan.Decided.IsZero()
	}) && !slices.ContainsFunc(all.Controller, func(p controllerPlan) bool { return p.Problem != "" })
	return fine, known || !fine
}

// planText is the plans for people.
func planText(all plans, now time.Time) string {
	var text strings.Builder
	for _, p := range all.Nodes {
		fmt.Fprintf(&text, "%s  %s: ", p.Node, p.Agent)
		switch {
		case p.Plan == nil:
			fmt.Fprintf(&text, "not known: %s\n", p.Problem)
			continue
		case p.Blocked != "":
			fmt.Fprintf(&text, "publishes nothing for now, and takes nothing away: %s\n", p.Blocked)
			switch at := diagnosis.Lasted(now.Sub(p.Plan.Decided)); {
			case p.Plan.Decided.IsZero():
			case p.Plan.Empty():
				fmt.Fprintf(&text, "  as of its last look, %s ago, there was nothing to do\n", at)
			default:
				fmt.Fprintf(&text, "  as of its last look, %s ago:\n", at)
			}
		case p.Plan.Empty():
			fmt.Fprintf(&text, "nothing to do; its registry holds %s\n", holding(p))
			continue
		default:
			fmt.Fprintf(&text, "its registry holds %s\n", holding(p))
		}
		writePlan(&text, *p.Plan, now)
	}
	for _, p := range all.Controller {
		text.WriteString(p.text())
	}
	return text.String()
}

// holding is how much the registry of a node holds.
func holding(p nodePlan) string {
	text := fmt.Sprintf("%d entries", p.Entries)
	if p.Entries == 1 {
		text = "1 entry"
	}
	if p.Plan.Foreign > 0 {
		text += fmt.Sprintf(", and %d of others, which it leaves alone", p.Plan.Foreign)
	}
	return text
}

func writePlan(text *strings.Builder, plan nodeview.Plan, now time.Time) {
	line := func(what string, entry nodeview.Entry, health, reason string) {
		fmt.Fprintf(text, "  %-10s  %s  %s  %s: %s\n", what, entry.Service, entry.Pod, cmp.Or(health, "unchecked"), reason)
	}
	told := map[string]bool{}
	for _, write := range plan.Writes {
		line(write.Kind, write.Entry, string(write.Entry.Health), write.Reason)
		switch {
		case write.Failed != "":
			told[write.Entry.ID] = true
			fmt.Fprintf(text, "  %-10s  failed %d times: %s; next try in %s\n", "", write.Tries, write.Failed, diagnosis.Lasted(write.Next.Sub(now)))
		case write.Underway:
			fmt.Fprintf(text, "  %-10s  under way\n", "")
		}
	}
	for _, kept := range plan.Frozen {
		line("frozen", kept.Entry, string(kept.Entry.Health), kept.Reason)
	}
	for _, kept := range plan.Held {
		line("held", kept.Entry, string(kept.Entry.Health), kept.Reason)
	}
	for _, kept := range plan.Replaced {
		line("replaced", kept.Entry, string(kept.Entry.Health), kept.Reason)
	}
	for _, refused := range plan.Refused {
		if !told[refused.ID] {
			fmt.Fprintf(text, "  %-10s  %s: %s\n", "refused", refused.ID, refused.Reason)
		}
	}
}
