package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consul/discovery"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/kube/imports"
)

// heldOpen is how many services Consul is asked for at the same time.
const heldOpen = 32

func importsCommand(access *access) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "imports",
		Short: "Show what ConsulImports make of Consul's services, or what one would",
		Long: `imports reads the ConsulImports, what there is in their namespaces, and what Consul
says, and decides by itself what the controller has to: which Services each import
makes, what it does not import and why, and what is to be written. At rest there is
nothing to write. It asks Consul with the token of this shell, the controller with one
of its own: if that has told something else on an import, it stands there as told.
With --file it shows what a ConsulImport would do that is not applied yet, or is to be
changed; whether the API server takes it says kubectl apply --dry-run=server.

Exit code: 0 nothing to do and nothing wrong, 1 something is, 2 it could not be
found out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			lines, err := access.imports(ctx, file)
			if err != nil {
				return err
			}
			err = access.print(cmd.OutOrStdout(), lines, func(out io.Writer) error { return writeImports(out, lines) })
			fine := !slices.ContainsFunc(lines, func(l diagnosis.ImportLine) bool { return !l.Plain() })
			return cmp.Or(err, verdict(fine, true))
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", file, "a manifest with one ConsulImport that is to be looked at as if it were applied")
	return cmd
}

// imports decides what the controller has to.
func (a *access) imports(ctx context.Context, file string) ([]diagnosis.ImportLine, error) {
	tried, err := a.manifest(file)
	if err != nil {
		return nil, err
	}
	client, err := a.kubernetes()
	if err != nil {
		return nil, err
	}
	policy, _, err := a.policy(ctx, client, nil)
	if err != nil {
		return nil, err
	}
	config, err := a.config().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	view, err := importsNow(ctx, rest.AddUserAgent(config, userAgent))
	if err != nil {
		return nil, err
	}
	in := consulimport.Input{Cluster: policy.Cluster, Imports: view.Imports, Services: view.Services, Slices: view.Slices, MaxShare: 1}
	if tried != nil {
		in.Imports = instead(in.Imports, *tried)
	}
	plan, err := a.decideImports(ctx, in)
	if err != nil {
		return nil, err
	}
	lines := diagnosis.Imports(plan)
	for i := range lines {
		if l := &lines[i]; tried == nil {
			l.Tell(view.Says(consulimport.Ref{Namespace: l.Namespace, Name: l.Import}))
		}
	}
	return slices.DeleteFunc(lines, func(l diagnosis.ImportLine) bool {
		return a.Namespace != "" && l.Namespace != a.Namespace || tried != nil && l.Import != tried.Ref.Name
	}), nil
}

// instead is the imports with one that is tried in place of the one of its name,
// whose objects it has.
func instead(all []consulimport.Import, tried consulimport.Import) []consulimport.Import {
	at := slices.IndexFunc(all, func(i consulimport.Import) bool { return i.Ref == tried.Ref })
	if at < 0 {
		return append(all, tried)
	}
	tried.UID = all[at].UID
	all[at] = tried
	return all
}

// manifest reads a ConsulImport; nil if there is no file.
func (a *access) manifest(file string) (*consulimport.Import, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var object v1alpha1.ConsulImport
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if object.Kind != "ConsulImport" || object.Name == "" {
		return nil, fmt.Errorf("%s: not one ConsulImport with a name", file)
	}
	if object.Namespace == "" {
		if object.Namespace, err = a.namespace(); err != nil {
			return nil, err
		}
	}
	in := imports.Read(&object)
	return &in, nil
}

// importsNow are the ConsulImports, and what there is in their namespaces.
func importsNow(ctx context.Context, config *rest.Config) (imports.View, error) {
	source, err := imports.New(config, nil)
	if err != nil {
		return imports.View{}, fmt.Errorf("kubernetes client: %w", err)
	}
	end := begin(ctx, source.Run)
	defer end()
	for {
		view := source.View()
		if view.Missing == "" {
			return view, nil
		}
		select {
		case <-source.Changed():
		case <-ctx.Done():
			return imports.View{}, fmt.Errorf("%s\nthe chart installs ConsulImports with controller.import.enabled=true", view.Missing)
		}
	}
}

// decideImports asks Consul for all that the decision needs.
func (a *access) decideImports(ctx context.Context, in consulimport.Input) (consulimport.Plan, error) {
	client, err := a.consul()
	if err != nil {
		return consulimport.Plan{}, err
	}
	source, err := discovery.New(client, heldOpen)
	if err != nil {
		return consulimport.Plan{}, err
	}
	end := begin(ctx, source.Run)
	defer end()
	for {
		in.Now = time.Now()
		in.Listings, in.Answers = source.View()
		plan, _ := consulimport.Decide(in, consulimport.Memory{})
		source.Follow(plan.Listings, plan.Answers, nil)
		if answered(plan, in) {
			return plan, nil
		}
		select {
		case <-source.Changed():
		case <-ctx.Done():
			return consulimport.Plan{}, fmt.Errorf("ask Consul for the services: %w", context.Cause(ctx))
		}
	}
}

// answered tells whether Consul has said something to all that was asked, if only
// that it cannot say.
func answered(plan consulimport.Plan, in consulimport.Input) bool {
	for _, where := range plan.Listings {
		if _, ok := in.Listings[where]; !ok {
			return false
		}
	}
	for _, origin := range plan.Answers {
		if _, ok := in.Answers[origin]; !ok {
			return false
		}
	}
	return true
}

// begin runs something until end is called, which waits for it.
func begin(ctx context.Context, run func(context.Context) error) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = run(ctx) }() // it ends when told to
	return func() { cancel(); <-ended }
}

func writeImports(out io.Writer, lines []diagnosis.ImportLine) error {
	if len(lines) == 0 {
		_, err := fmt.Fprintln(out, "there is no ConsulImport")
		return err
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "IMPORT\tREADY\tREASON\tSERVICES\tENDPOINTS\tMESSAGE")
	for _, l := range lines {
		fmt.Fprintf(table, "%s/%s\t%v\t%s\t%d\t%d\t%s\n", l.Namespace, l.Import, l.Ready, l.Reason, l.Services, l.Endpoints, l.Message)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, l := range lines {
		var told []string
		if l.Told != "" {
			told = append(told, l.Told)
		}
		if l.Plain() || len(l.NotImported)+len(l.Writes)+len(l.Held)+len(told) == 0 {
			continue
		}
		fmt.Fprintf(&text, "\n%s/%s\n", l.Namespace, l.Import)
		for _, part := range []struct {
			what  string
			lines []string
		}{{"not imported", l.NotImported}, {"to write", l.Writes}, {"held", l.Held}, {"told", told}} {
			for _, line := range part.lines {
				fmt.Fprintf(&text, "  %-12s  %s\n", part.what, line)
			}
		}
	}
	_, err := io.WriteString(out, text.String())
	return err
}
