package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/consul/leftover"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/purge"
)

// controllerName is the name of the chart's Deployment.
const controllerName = "fairway-controller"

func migrateServicesCommand(access *access) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "consul-k8s",
		Short: "From consul-k8s' catalog sync to Fairway",
		Long: `consul-k8s looks at the Deployment of consul-k8s' catalog sync, at its entries in
Consul, and at what Fairway gives clients beside them. It says how far the change
is, with which values of the chart Fairway publishes the same, what clients would
miss, what is different, and the next step. It changes nothing, and can be called
before Fairway is installed.

Exit code: 0 nothing is in the way, 1 something is, 2 it could not be found out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			facts, err := access.serviceMigration(ctx)
			if err != nil {
				return err
			}
			report := diagnosis.MigrateServices(facts)
			err = access.print(cmd.OutOrStdout(), report, func(out io.Writer) error { return writeServiceMigration(out, report, all) })
			return cmp.Or(err, verdict(report.Fine()))
		},
	}
	cmd.Flags().BoolVar(&all, "all", all, "list every entry, not only how many there are")
	return cmd
}

// serviceMigration looks at all that a change from consul-k8s is made of.
func (a *access) serviceMigration(ctx context.Context) (diagnosis.ServiceMigrationFacts, error) {
	facts := diagnosis.ServiceMigrationFacts{Namespace: a.FairwayNamespace, Node: diagnosis.SyncNode}
	client, err := a.kubernetes()
	if err != nil {
		return facts, err
	}
	if facts.Syncs, err = syncs(ctx, client); err != nil {
		return facts, err
	}
	if len(facts.Syncs) > 0 {
		facts.Node = facts.Syncs[0].Settings.Node
	}
	controller, err := client.AppsV1().Deployments(a.FairwayNamespace).Get(ctx, controllerName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return facts, fmt.Errorf("look for Fairway's controller: %w", err)
	default:
		facts.Installed = true
		facts.Exporting = slices.ContainsFunc(words(controller.Spec.Template.Spec), func(arg string) bool { return arg == "--export" || arg == "--export=true" })
	}
	if facts.Registry, err = a.registry(ctx, client); err != nil {
		return facts, err
	}
	consul, err := a.consul()
	if err != nil {
		return facts, err
	}
	found, err := leftover.Find(ctx, consul, leftover.Query{Node: facts.Node})
	if err != nil {
		return facts, fmt.Errorf("%w\nset CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN, or --consul-address and --consul-token-file", err)
	}
	facts.Entries, facts.Empty = purge.Decide(purge.Input{Asked: found.Asked, Others: found.Others}), len(found.Empty) > 0
	if len(facts.Syncs) > 0 {
		facts.Tagged, err = tagged(ctx, client, facts.Syncs[0].Settings.Tag)
	}
	return facts, err
}

// registry is where Fairway's agents register pods; empty if there are none.
func (a *access) registry(ctx context.Context, client kubernetes.Interface) (string, error) {
	set, err := client.AppsV1().DaemonSets(a.FairwayNamespace).Get(ctx, agentName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look for Fairway's DaemonSet: %w", err)
	}
	for _, word := range words(set.Spec.Template.Spec) {
		if registry, ok := strings.CutPrefix(word, "--registry="); ok {
			return registry, nil
		}
	}
	return diagnosis.RegistryAgent, nil // the agent's default
}

// tagged are the Services that ask for a tag.
func tagged(ctx context.Context, client kubernetes.Interface, tag string) (names []string, err error) {
	services, err := client.CoreV1().Services(corev1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	for _, svc := range services.Items {
		if slices.Contains(annotation.ParseService(svc.Annotations, nil).Tags, tag) {
			names = append(names, svc.Namespace+"/"+svc.Name)
		}
	}
	return names, nil
}

// syncs are the Deployments that run consul-k8s' catalog sync.
func syncs(ctx context.Context, client kubernetes.Interface) ([]diagnosis.Sync, error) {
	deployments, err := client.AppsV1().Deployments(corev1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Deployments: %w", err)
	}
	var found []diagnosis.Sync
	for _, d := range deployments.Items {
		if settings, ok := diagnosis.ReadSync(words(d.Spec.Template.Spec)); ok {
			replicas := int32(1)
			if d.Spec.Replicas != nil {
				replicas = *d.Spec.Replicas
			}
			found = append(found, diagnosis.Sync{Name: d.Namespace + "/" + d.Name, Replicas: replicas, Settings: settings})
		}
	}
	return found, nil
}

// words are the commands and arguments of a pod's containers.
func words(spec corev1.PodSpec) (words []string) {
	for _, container := range spec.Containers {
		words = slices.Concat(words, container.Command, container.Args)
	}
	return words
}

func writeServiceMigration(out io.Writer, r diagnosis.ServiceMigrationReport, all bool) error {
	if err := writeReport(out, r.Headline, r.Sections, ""); err != nil {
		return err
	}
	var text strings.Builder
	if len(r.Values) > 0 {
		values, err := yaml.Marshal(nested(r.Values))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "\nvalues of the chart with which Fairway publishes the same:\n\n%s", values)
	}
	if all && len(r.Entries) > 0 {
		text.WriteString("\n")
		if err := writeEntries(&text, purged{Decisions: r.Entries}); err != nil {
			return err
		}
	}
	text.WriteString("\nnext: " + r.Next + "\n")
	_, err := io.WriteString(out, text.String())
	return err
}

// nested puts values at their paths, as they stand in a file.
func nested(values []diagnosis.Value) map[string]any {
	root := map[string]any{}
	for _, v := range values {
		path := strings.Split(v.Path, ".")
		at := root
		for _, step := range path[:len(path)-1] {
			below, ok := at[step].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[step] = below
			}
			at = below
		}
		at[path[len(path)-1]] = v.Value
	}
	return root
}
