package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/app/controller"
	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/kube/services"
	"fairway.dev/fairway/internal/registration"
)

// published is what was found of the cluster's Services.
type published struct {
	// Exporting is false if no controller publishes Services, or none with the flags
	// that are Tried: then Services is what one would do.
	Exporting bool                    `json:"exporting"`
	Tried     []string                `json:"tried,omitempty"`
	Cluster   string                  `json:"cluster"`
	Services  []diagnosis.ServiceLine `json:"services"`
}

func servicesCommand(access *access) *cobra.Command {
	var (
		all bool
		try []string
	)
	cmd := &cobra.Command{
		Use:   "services [NAME]",
		Short: "Show which Services are published in Consul, as what, and why others are not",
		Long: `services reads the cluster's Services with what their instances depend on, and what
Consul holds of them, and decides by itself what the controller has to: as what each
Service is published, why not, what is wrong with its annotations, and what is to be
written. At rest there is nothing to write.

What the controller was told is read from its Deployment. With --try it is asked what
would be if it were told something else, or before there is one.

Exit code: 0 nothing to do and nothing wrong, 1 something is, 2 it could not be
found out.`,
		Example: `  fairway services
  fairway services -n shop web
  fairway services --try=--export-all,--export-name={name}-{namespace}`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			found, err := access.published(ctx, tried(try))
			if err != nil {
				return err
			}
			found.Services = slices.DeleteFunc(found.Services, func(l diagnosis.ServiceLine) bool {
				return access.Namespace != "" && l.Namespace != access.Namespace || len(args) > 0 && l.Service != strings.TrimPrefix(args[0], "svc/")
			})
			if len(args) > 0 && len(found.Services) == 0 {
				return fmt.Errorf("no Service %s; see fairway services --all", args[0])
			}
			err = access.print(cmd.OutOrStdout(), found, func(out io.Writer) error { return writeServices(out, *found, all || len(args) > 0) })
			fine := !slices.ContainsFunc(found.Services, func(l diagnosis.ServiceLine) bool { return !l.Plain() })
			return cmp.Or(err, verdict(fine, true))
		},
	}
	cmd.Flags().BoolVar(&all, "all", all, "also those that are not published")
	cmd.Flags().StringArrayVar(&try, "try", try, "flags of fairway-controller in place of those that it has")
	return cmd
}

// tried are the flags in values of --try: separated by commas, which may stand in
// their values, too.
func tried(values []string) (flags []string) {
	for _, value := range values {
		for i, flag := range strings.Split(value, ",--") {
			if i > 0 {
				flag = "--" + flag
			}
			flags = append(flags, flag)
		}
	}
	return flags
}

// published decides what the controller has to.
func (a *access) published(ctx context.Context, try []string) (*published, error) {
	client, err := a.kubernetes()
	if err != nil {
		return nil, err
	}
	policy, exporting, err := a.policy(ctx, client, try)
	if err != nil {
		return nil, err
	}
	view, err := a.services(ctx, client, policy)
	if err != nil {
		return nil, err
	}
	entries, err := a.shards(ctx, policy.Cluster)
	if err != nil {
		return nil, fmt.Errorf("%w\nset CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN, or --consul-address and --consul-token-file", err)
	}
	plan := export.Decide(export.Input{Policy: policy, Cluster: view, Entries: entries, Evidence: export.Evidence{Now: time.Now(), MaxShare: 1}})
	return &published{Exporting: exporting, Tried: try, Cluster: policy.Cluster, Services: diagnosis.Services(plan)}, nil
}

// policy is that of the controller, and whether it publishes; with other flags it is
// what one with these would do.
func (a *access) policy(ctx context.Context, client kubernetes.Interface, try []string) (policy export.Policy, exporting bool, err error) {
	var args []string
	deployment, err := client.AppsV1().Deployments(a.FairwayNamespace).Get(ctx, controllerName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		agents, err := a.agents(ctx, client, "")
		if err != nil {
			return policy, false, err
		}
		if len(agents) > 0 {
			args = words(agents[0].Spec) // for the cluster's id
		}
	case err != nil:
		return policy, false, fmt.Errorf("look for Fairway's controller: %w", err)
	default:
		args = words(deployment.Spec.Template.Spec)
	}
	policy, exporting, err = controller.Policy(args, try)
	if err == nil && policy.Cluster == "" {
		err = fmt.Errorf("namespace %s has neither a controller nor an agent that says the cluster's id: give it with --try=--cluster-id=ID", a.FairwayNamespace)
	}
	return policy, exporting && len(try) == 0, err
}

// services are the cluster's, as of now.
func (a *access) services(ctx context.Context, client kubernetes.Interface, policy export.Policy) (export.Cluster, error) {
	config, err := a.config().ClientConfig()
	if err != nil {
		return export.Cluster{}, fmt.Errorf("read the kubeconfig: %w", err)
	}
	custom, err := dynamic.NewForConfig(config)
	if err != nil {
		return export.Cluster{}, fmt.Errorf("kubernetes client: %w", err)
	}
	source := services.New(client, custom, services.Options{
		NamespaceLabels: !policy.Namespaces.Empty(), Ingress: policy.Ingress, Gateway: policy.Gateway,
	})
	end := begin(ctx, source.Run)
	defer end()
	for {
		view := source.View()
		if view.Synced {
			return view.Cluster, nil
		}
		select {
		case <-source.Changed():
		case <-ctx.Done():
			return export.Cluster{}, fmt.Errorf("read the cluster's Services: %w", cmp.Or(problem(view.Problem), context.Cause(ctx)))
		}
	}
}

func problem(text string) error {
	if text == "" {
		return nil
	}
	return fmt.Errorf("%s", text)
}

// shards are what Consul holds of the cluster's Services, by shard.
func (a *access) shards(ctx context.Context, cluster string) (map[int][]registration.Entry, error) {
	client, err := a.consul()
	if err != nil {
		return nil, err
	}
	entries, mu := map[int][]registration.Entry{}, sync.Mutex{}
	var group errgroup.Group
	for number := range export.Shards {
		registry, err := catalog.New(catalog.Options{Client: client, Cluster: cluster, Node: export.ShardName(number), Placeless: true})
		if err != nil {
			return nil, err
		}
		group.Go(func() error {
			held, err := registry.Observe(ctx)
			mu.Lock()
			defer mu.Unlock()
			entries[number] = held
			return err
		})
	}
	return entries, group.Wait()
}

func writeServices(out io.Writer, p published, all bool) error {
	var text strings.Builder
	switch {
	case len(p.Tried) > 0:
		fmt.Fprintf(&text, "what a controller with %s would do; nothing is changed\n\n", strings.Join(p.Tried, " "))
	case !p.Exporting:
		text.WriteString("no controller publishes Services; this is what one would do\n\n")
	}
	shown, hidden := []diagnosis.ServiceLine{}, 0
	for _, l := range p.Services {
		if !all && l.Plain() && l.State == string(export.Unpublished) {
			hidden++
			continue
		}
		shown = append(shown, l)
	}
	if len(shown) > 0 {
		table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "SERVICE\tSTATE\tIN CONSUL\tADDRESS\tPASSING\tREASON")
		for _, l := range shown {
			fmt.Fprintln(table, strings.Join([]string{
				l.Namespace + "/" + l.Service, l.State, cmp.Or(l.Consul, "-"), cmp.Or(l.Address, "-"), passing(l), l.Reason,
			}, "\t"))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	for _, l := range shown {
		writeService(&text, l)
	}
	if hidden > 0 {
		fmt.Fprintf(&text, "\nnot published: %d more; --all shows why\n", hidden)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

// passing is how many of a Service's instances pass, if it is to have any.
func passing(l diagnosis.ServiceLine) string {
	if l.Consul == "" {
		return "-"
	}
	return fmt.Sprintf("%d of %d", l.Passing, l.Instances)
}

// writeService writes what is particular about a Service.
func writeService(text *strings.Builder, l diagnosis.ServiceLine) {
	if len(l.Wrong)+len(l.Skipped)+len(l.Writes)+len(l.Held) == 0 {
		return
	}
	fmt.Fprintf(text, "\n%s/%s\n", l.Namespace, l.Service)
	line := func(what, says string) { fmt.Fprintf(text, "  %-10s  %s\n", what, says) }
	for _, wrong := range l.Wrong {
		line("wrong", wrong)
	}
	for _, skipped := range l.Skipped {
		line("skipped", skipped)
	}
	for _, w := range l.Writes {
		line(w.Kind, fmt.Sprintf("%s at %s, %s: %s", w.Consul, w.Place, w.Health, w.Reason))
	}
	for _, h := range l.Held {
		line("held", fmt.Sprintf("%s at %s: %s", h.Consul, h.Place, h.Reason))
	}
}
