package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/diagnosis"
)

func verifyCommand(access *access) *cobra.Command {
	var (
		cluster string
		settle  = 2 * time.Second
	)
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the pods with what the Consul servers give to clients",
		Long: `verify compares all pods of the cluster, or with -n those of one namespace, with
what the Consul servers give to clients by a consistent read: which pods are
missing or kept back, which entries clients are given of pods that are not
ready, ending or gone, which entries are not as their pods ask for, and which
addresses are given twice.

A difference counts only if it is still there after --settle: what changes while
it is looked at is no finding.

Exit code: 0 no difference, 1 some, 2 it could not be found out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			report, err := access.verify(ctx, cluster, settle)
			if err != nil {
				return err
			}
			err = access.print(cmd.OutOrStdout(), report, func(out io.Writer) error { return writeCatalog(out, report) })
			return cmp.Or(err, verdict(len(report.Differences) == 0, len(report.Unknown) == 0 || len(report.Differences) > 0))
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster-id", cluster, "id of this cluster in Consul (default: that of the agents)")
	cmd.Flags().DurationVar(&settle, "settle", settle, "how long a difference must last; 0: look once")
	return cmd
}

// verify looks once, and again if something differs.
func (a *access) verify(ctx context.Context, cluster string, settle time.Duration) (diagnosis.CatalogReport, error) {
	client, err := a.kubernetes()
	if err != nil {
		return diagnosis.CatalogReport{}, err
	}
	if cluster == "" {
		if cluster, err = a.cluster(ctx, client); err != nil {
			return diagnosis.CatalogReport{}, err
		}
	}
	first, err := a.compare(ctx, client, cluster)
	if err != nil || len(first.Differences) == 0 || settle <= 0 {
		return first, err
	}
	select {
	case <-ctx.Done():
		return diagnosis.CatalogReport{}, context.Cause(ctx)
	case <-time.After(settle):
	}
	second, err := a.compare(ctx, client, cluster)
	return second.Lasting(first), err
}

// compare looks at the pods and then at the servers.
func (a *access) compare(ctx context.Context, client kubernetes.Interface, cluster string) (diagnosis.CatalogReport, error) {
	pods, err := placed(ctx, client, a.Namespace)
	if err != nil {
		return diagnosis.CatalogReport{}, err
	}
	consul, err := a.consul()
	if err != nil {
		return diagnosis.CatalogReport{}, err
	}
	names, err := health.Names(ctx, consul)
	if err != nil {
		return diagnosis.CatalogReport{}, fmt.Errorf("%w\nset CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN, or --consul-address and --consul-token-file", err)
	}
	for _, pod := range pods {
		names = append(names, annotation.Parse(pod.Pod).Services...)
	}
	slices.Sort(names)
	return diagnosis.Verify(diagnosis.CatalogFacts{
		Cluster: cluster, Namespace: a.Namespace, Pods: pods, Listings: health.List(ctx, consul, slices.Compact(names)),
	}), nil
}

// cluster is the id under which the agents register.
func (a *access) cluster(ctx context.Context, client kubernetes.Interface) (string, error) {
	set, err := client.AppsV1().DaemonSets(a.FairwayNamespace).Get(ctx, agentName, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("the agents' DaemonSet does not tell the cluster's id, see --cluster-id and --fairway-namespace: %w", err)
	}
	if id := clusterID(set.Spec.Template.Spec); id != "" {
		return id, nil
	}
	return "", fmt.Errorf("the DaemonSet %s has no --cluster-id: give it with --cluster-id", agentName)
}

// writeCatalog writes a comparison for people.
func writeCatalog(out io.Writer, r diagnosis.CatalogReport) error {
	var text strings.Builder
	fmt.Fprintf(&text, "cluster      %s\npods         %d\ninstances    %d\n", r.Cluster, r.Pods, r.Instances)
	fmt.Fprintf(&text, "given        %d to clients, just as declared\n", r.Given)
	fmt.Fprintf(&text, "kept back    %d, not ready\n", r.Withheld)
	fmt.Fprintf(&text, "foreign      %d under the same names\n", r.Foreign)
	if r.OfServices > 0 {
		fmt.Fprintf(&text, "of Services  %d, at which fairway services looks\n", r.OfServices)
	}
	for _, finding := range r.Unknown {
		fmt.Fprintf(&text, "unknown      %s\n", finding.Text)
	}
	fmt.Fprintf(&text, "differences  %d\n", len(r.Differences))
	if len(r.Differences) > 0 {
		text.WriteString("\n")
		table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "SERVICE\tPOD\tNODE\tWHAT\tDETAIL")
		for _, d := range r.Differences {
			fmt.Fprintln(table, strings.Join([]string{cmp.Or(d.Service, "-"), d.Pod, cmp.Or(d.Node, "-"), d.Kind, d.Detail}, "\t"))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		text.WriteString("\nnext: " + nextOf(r) + "\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// nextOf is what to do about the first difference.
func nextOf(r diagnosis.CatalogReport) string {
	for _, d := range r.Differences {
		if d.Kind != diagnosis.GivenGone {
			namespace, name, _ := strings.Cut(d.Pod, "/")
			return fmt.Sprintf("fairway why -n %s %s", namespace, name)
		}
	}
	return "fairway plan says what the agents hold, and why"
}
