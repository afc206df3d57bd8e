package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/leftover"
	"fairway.dev/fairway/internal/purge"
)

// purged is what became, or would become, of the entries that were asked for.
type purged struct {
	Applied   bool             `json:"applied"`
	Decisions []purge.Decision `json:"decisions"`
	// Failed says why one could not be removed, by "CONSULNODE/ID".
	Failed map[string]string `json:"failed,omitempty"`
	// Empty are Consul nodes that hold nothing, and Nodes those that have been removed,
	// since they had nothing left.
	Empty []string `json:"empty,omitempty"`
	Nodes []string `json:"nodes,omitempty"`
}

func purgeCommand(access *access) *cobra.Command {
	var (
		query            leftover.Query
		inService, apply bool
	)
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Show what nobody keeps in Consul any more, and with --apply take it out",
		Long: `purge looks at entries of the Consul servers that a cluster which is gone, or
another registrar, has left behind, and says of each whether it can go:

- one that clients are not given goes
- one that clients are given goes if another stands at its address and port
  under the same name; else it stays, unless --in-service is given
- one that a Consul agent keeps stays: the agent would register it again
- one that is not marked as of Kubernetes stays

Nothing is changed without --apply. An entry that changes meanwhile stays. Of a
cluster whose Fairway runs the entries come back by themselves.

Exit code: 0 there is nothing to remove, or all that was asked for is gone,
1 something could be removed, or stays, 2 it could not be found out.`,
		Example: `  fairway purge --node k8s-sync
  fairway purge --cluster east-1 --filter 'Service == "web" or Meta["external-k8s-namespace"] == "shop"'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			client, err := access.consul()
			if err != nil {
				return err
			}
			done, err := purgeEntries(ctx, client, query, inService, apply)
			if done == nil {
				return err
			}
			printed := access.print(cmd.OutOrStdout(), done, func(out io.Writer) error { return writePurged(out, *done) })
			return cmp.Or(err, printed, verdict(done.fine(), true))
		},
	}
	f := cmd.Flags()
	f.BoolVar(&apply, "apply", apply, "carry it out")
	f.StringVar(&query.Cluster, "cluster", query.Cluster, "id of a cluster: what Fairway has registered from it under nodes of its own")
	f.StringVar(&query.Filter, "filter", query.Filter, "a filter expression of Consul's over services; default: all")
	f.BoolVar(&inService, "in-service", inService, "also what clients are given and would miss")
	f.StringVar(&query.Node, "node", query.Node, "a Consul node, such as k8s-sync")
	cmd.MarkFlagsOneRequired("cluster", "node")
	cmd.MarkFlagsMutuallyExclusive("cluster", "node")
	return cmd
}

// purgeEntries returns nothing if it could not be found out.
func purgeEntries(ctx context.Context, client *consul.Client, query leftover.Query, inService, apply bool) (*purged, error) {
	found, err := leftover.Find(ctx, client, query)
	if err != nil {
		return nil, err
	}
	done := &purged{Empty: found.Empty, Decisions: purge.Decide(purge.Input{Asked: found.Asked, Others: found.Others, InService: inService})}
	if !apply {
		return done, nil
	}
	done.Applied = true
	failed, nodes, err := found.Remove(ctx, client, done.Decisions)
	done.Nodes = nodes
	for i, why := range failed {
		if done.Failed == nil {
			done.Failed = map[string]string{}
		}
		done.Failed[done.Decisions[i].Entry.ConsulNode+"/"+done.Decisions[i].Entry.ID] = consul.Reason(why)
	}
	return done, err
}

// fine tells whether nothing is left of what was asked for.
func (p purged) fine() bool {
	for _, d := range p.Decisions {
		if !d.Remove {
			return false
		}
	}
	return len(p.Failed) == 0 && (p.Applied || len(p.Decisions)+len(p.Empty) == 0)
}

// why says why an entry could not be removed.
func (p purged) why(d purge.Decision) string { return p.Failed[d.Entry.ConsulNode+"/"+d.Entry.ID] }

// writeEntries writes a line for each entry.
func writeEntries(out io.Writer, p purged) error {
	if len(p.Decisions) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHAT\tCONSUL NODE\tSERVICE\tPLACE\tBECAUSE")
	for _, d := range p.Decisions {
		what, says := "keep", d.Says
		switch why := p.why(d); {
		case why != "":
			what, says = "failed", why
		case d.Remove && p.Applied:
			what = "removed"
		case d.Remove:
			what = "remove"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", what, d.Entry.ConsulNode, d.Entry.Service, d.Entry.Place(), says)
	}
	return table.Flush()
}

func writePurged(out io.Writer, p purged) error {
	var text strings.Builder
	if err := writeEntries(&text, p); err != nil {
		return err
	}
	removed := 0
	for _, d := range p.Decisions {
		if d.Remove && p.why(d) == "" {
			removed++
		}
	}
	kept := len(p.Decisions) - removed
	if len(p.Decisions) == 0 {
		text.WriteString("the servers hold no such entry\n")
	}
	switch {
	case len(p.Decisions)+len(p.Empty) == 0:
	case p.Applied:
		fmt.Fprintf(&text, "\nremoved %d, kept %d\n", removed, kept)
		for _, node := range p.Nodes {
			fmt.Fprintf(&text, "removed Consul node %s, which had nothing left\n", node)
		}
	default:
		fmt.Fprintf(&text, "\n%d to remove, %d to keep; nothing was changed\n", removed, kept)
		for _, node := range p.Empty {
			fmt.Fprintf(&text, "to remove, too: Consul node %s, which holds nothing\n", node)
		}
		if removed+len(p.Empty) > 0 {
			text.WriteString("\nnext: the same with --apply\n")
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}
