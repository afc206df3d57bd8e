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

func planCommand(access *access) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what the agents would write to Consul now, and why",
		Long: `plan asks each agent what it would write to Consul now: registrations, changes
of health and removals with their reasons, what it holds although no pod asks
for it, and what Consul does not take. An agent at rest has nothing to do.

Exit code: 0 nothing to do anywhere, 1 something is planned, held or refused,
2 an agent could not be asked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			plans, err := access.plans(ctx, node)
			if err != nil {
				return err
			}
			err = access.print(cmd.OutOrStdout(), plans, func(out io.Writer) error {
				_, err := io.WriteString(out, planText(plans, time.Now()))
				return err
			})
			return cmp.Or(err, verdict(planVerdict(plans)))
		},
	}
	cmd.Flags().StringVar(&node, "node", node, "only the agent of this node")
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
	var plans []nodePlan
	for _, agent := range a.nodeAgents(ctx, client, pods) {
		plans = append(plans, planOf(agent))
	}
	return plans, nil
}

func planOf(agent diagnosis.NodeAgent) nodePlan {
	p := nodePlan{Node: agent.Node, Agent: agent.Name, Problem: agent.ViewProblem}
	if view := agent.View; view != nil {
		p.Blocked, p.Entries, p.Plan = view.Blocked, len(view.Entries), &view.Plan
	}
	return p
}

// planVerdict tells whether there is nothing to do, and whether that is known.
func planVerdict(plans []nodePlan) (fine, known bool) {
	fine = !slices.ContainsFunc(plans, func(p nodePlan) bool { return p.Plan != nil && !p.Plan.Empty() })
	known = !slices.ContainsFunc(plans, func(p nodePlan) bool {
		return p.Plan == nil || p.Blocked != "" || p.Plan.Decided.IsZero()
	})
	return fine, known || !fine
}

// planText is the plans for people.
func planText(plans []nodePlan, now time.Time) string {
	var text strings.Builder
	for _, p := range plans {
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
