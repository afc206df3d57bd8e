package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/kube"
	"fairway.dev/fairway/internal/succession"
)

func migrateCommand(access *access) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Say how far a change from another system is, and what comes next",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(migrateServicesCommand(access), migrateKatalogCommand(access))
	return cmd
}

func migrateKatalogCommand(access *access) *cobra.Command {
	var back, all bool
	cmd := &cobra.Command{
		Use:   "katalog-sync",
		Short: "From katalog-sync to Fairway, or with --back the other way",
		Long: `katalog-sync looks at all pods, at what katalog-sync and Fairway have registered,
and at the agents, and says how far the change is, what is in its way, what
clients and pods will find different, and the next step. It changes nothing, and
can be called before Fairway is installed.

Exit code: 0 nothing is in the way, 1 something is, 2 it could not be found out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			facts, err := access.migration(ctx, back)
			if err != nil {
				return err
			}
			report := diagnosis.Migrate(facts)
			err = access.print(cmd.OutOrStdout(), report, func(out io.Writer) error { return writeMigration(out, report, all) })
			return cmp.Or(err, verdict(report.Fine()))
		},
	}
	cmd.Flags().BoolVar(&all, "all", all, "list every entry, not only how many there are")
	cmd.Flags().BoolVar(&back, "back", back, "from Fairway back to katalog-sync")
	return cmd
}

// migration looks at all that a change between katalog-sync and Fairway is made
// of.
func (a *access) migration(ctx context.Context, back bool) (diagnosis.MigrationFacts, error) {
	facts := diagnosis.MigrationFacts{Back: back, Namespace: a.FairwayNamespace}
	client, err := a.kubernetes()
	if err != nil {
		return facts, err
	}
	if facts.Katalog, err = katalog(ctx, client); err != nil {
		return facts, err
	}
	set, err := client.AppsV1().DaemonSets(a.FairwayNamespace).Get(ctx, agentName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return facts, fmt.Errorf("look for Fairway's DaemonSet: %w", err)
	default:
		facts.Installed, facts.Mode = true, modeOf(set)
		agents, err := a.agents(ctx, client, "")
		if err != nil {
			return facts, err
		}
		facts.Agents = a.nodeAgents(ctx, client, agents)
	}
	names, err := a.declared(ctx, client, &facts)
	if err != nil {
		return facts, err
	}
	consul, err := a.consul()
	if err != nil {
		return facts, err
	}
	theirs, err := health.KatalogNames(ctx, consul)
	if err != nil {
		return facts, fmt.Errorf("%w\nset CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN, or --consul-address and --consul-token-file", err)
	}
	names = append(names, theirs...)
	slices.Sort(names)
	facts.Listings = health.List(ctx, consul, slices.Compact(names))
	return facts, nil
}

// declared reads all pods, and returns the services that they declare.
func (a *access) declared(ctx context.Context, client kubernetes.Interface, facts *diagnosis.MigrationFacts) (names []string, err error) {
	pods, err := client.CoreV1().Pods(corev1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	for i := range pods.Items {
		pod := kube.Pod(&pods.Items[i])
		facts.Pods = append(facts.Pods, diagnosis.Placed{Pod: pod, Node: pods.Items[i].Spec.NodeName})
		names = append(names, annotation.Parse(pod).Services...)
	}
	return names, nil
}

// modeOf is what the agents of a DaemonSet are told about katalog-sync.
func modeOf(set *appsv1.DaemonSet) succession.Mode {
	for _, container := range set.Spec.Template.Spec.Containers {
		for _, arg := range container.Args {
			if mode, ok := strings.CutPrefix(arg, "--katalog-sync="); ok {
				return succession.Mode(mode)
			}
		}
	}
	return succession.Apart
}

func writeMigration(out io.Writer, r diagnosis.MigrationReport, all bool) error {
	if err := writeReport(out, r.Headline, r.Sections, ""); err != nil {
		return err
	}
	var text strings.Builder
	if all && len(r.Entries) > 0 {
		table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "\nPOD\tSERVICE\tSTATE\tREASON")
		for _, entry := range r.Entries {
			fmt.Fprintln(table, strings.Join([]string{entry.Pod.String(), entry.Service, entry.State, entry.Reason}, "\t"))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	text.WriteString("\nnext: " + r.Next + "\n")
	_, err := io.WriteString(out, text.String())
	return err
}
