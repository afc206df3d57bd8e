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
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/service"
)

func doctorCommand(access *access, version string) *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say whether the installation is healthy",
		Long: `doctor looks at the agents of all nodes and where their pods come from, at the
controllers, at Consul, at the admission policies, at gates that no agent can open, at a
katalog-sync that still runs, and at versions. Each finding is ok, a note, a
warning (it works, look at it), a problem or unknown, and says what to do.

Exit code: 0 no problem, 1 a problem, 2 not everything could be found out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			facts, err := access.installation(ctx, version)
			if err != nil {
				return err
			}
			report := diagnosis.Doctor(facts)
			err = access.print(cmd.OutOrStdout(), report, func(out io.Writer) error {
				return writeReport(out, "", report.Sections, "")
			})
			return cmp.Or(err, verdict(report.Fine()))
		},
	}
}

// installation looks at all that an installation is made of.
func (a *access) installation(ctx context.Context, version string) (diagnosis.InstallationFacts, error) {
	client, err := a.kubernetes()
	if err != nil {
		return diagnosis.InstallationFacts{}, err
	}
	facts := diagnosis.InstallationFacts{Namespace: a.FairwayNamespace, Version: version}
	cluster := a.daemonSet(ctx, client, &facts)
	if pods, err := a.agents(ctx, client, ""); err != nil {
		facts.AgentsProblem = err.Error()
	} else {
		facts.Agents = a.nodeAgents(ctx, client, pods)
	}
	facts.Controllers = a.controllers(ctx, client, leased(facts.Agents))
	facts.Policies = policies(ctx, client)
	facts.Consul = a.consulFacts(ctx, leased(facts.Agents), cluster)
	if facts.Waiting, err = waiting(ctx, client); err != nil {
		facts.PodsProblem = err.Error()
	}
	if facts.Katalog, err = katalog(ctx, client); err != nil {
		facts.KatalogProblem = err.Error()
	}
	facts.Now = time.Now()
	return facts, nil
}

// daemonSet looks at the agents' DaemonSet, and returns the cluster's id.
func (a *access) daemonSet(ctx context.Context, client kubernetes.Interface, facts *diagnosis.InstallationFacts) (cluster string) {
	set, err := client.AppsV1().DaemonSets(a.FairwayNamespace).Get(ctx, agentName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return ""
	case err != nil:
		facts.DaemonSetProblem = err.Error()
		return ""
	}
	facts.DaemonSet = &diagnosis.DaemonSet{
		Desired: int(set.Status.DesiredNumberScheduled), Updated: int(set.Status.UpdatedNumberScheduled), Ready: int(set.Status.NumberReady),
	}
	return clusterID(set.Spec.Template.Spec)
}

// leased tells whether an agent registers under virtual nodes, which have leases.
func leased(agents []diagnosis.NodeAgent) bool {
	return slices.ContainsFunc(agents, func(a diagnosis.NodeAgent) bool { return a.View != nil && a.View.Registry == "catalog" })
}

// policies looks at the admission policies of the chart.
func policies(ctx context.Context, client kubernetes.Interface) []diagnosis.Policy {
	admission := client.AdmissionregistrationV1()
	var validating, mutating []string // the policies that are bound
	validatingBindings, validatingErr := admission.ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
	if validatingErr == nil {
		for i := range validatingBindings.Items {
			validating = append(validating, validatingBindings.Items[i].Spec.PolicyName)
		}
	}
	mutatingBindings, mutatingErr := admission.MutatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
	if mutatingErr == nil {
		for i := range mutatingBindings.Items {
			mutating = append(mutating, mutatingBindings.Items[i].Spec.PolicyName)
		}
	}
	policy := func(name, gives string, get error, bound []string, list error) diagnosis.Policy {
		p := diagnosis.Policy{Name: name, Gives: gives, Exists: get == nil, Bound: slices.Contains(bound, name)}
		switch {
		case apierrors.IsNotFound(get): // nor has a server that does not know the kind
		case get != nil:
			p.Problem = get.Error()
		case list != nil:
			p.Problem = list.Error()
		}
		return p
	}
	_, ownNode := admission.ValidatingAdmissionPolicies().Get(ctx, "fairway-own-node", metav1.GetOptions{})
	_, annotations := admission.ValidatingAdmissionPolicies().Get(ctx, "fairway-annotations", metav1.GetOptions{})
	_, inject := admission.MutatingAdmissionPolicies().Get(ctx, "fairway-inject", metav1.GetOptions{})
	return []diagnosis.Policy{
		policy("fairway-own-node", "keeps each agent to the pods of its own node", ownNode, validating, validatingErr),
		policy("fairway-annotations", "tells of bad annotations when they are applied", annotations, validating, validatingErr),
		policy("fairway-inject", "adds the gate to pods that ask for it", inject, mutating, mutatingErr),
	}
}

// consulFacts looks at Consul, and at the leases of the cluster's virtual nodes.
func (a *access) consulFacts(ctx context.Context, leased bool, cluster string) diagnosis.ConsulFacts {
	ctx, cancel := context.WithTimeout(ctx, consulTimeout)
	defer cancel()
	var facts diagnosis.ConsulFacts
	client, err := a.consul()
	if err != nil {
		facts.Problem = err.Error()
		return facts
	}
	leader, servers, err := client.Leader(ctx)
	if err != nil {
		facts.Problem = err.Error()
		return facts
	}
	facts.Leader, facts.Servers = leader, servers
	if !leased || leader == "" {
		return facts
	}
	leases, err := catalog.NewLeases(client, cluster).List(ctx)
	if err != nil {
		facts.LeasesProblem = err.Error()
		return facts
	}
	facts.Expired = map[string]string{}
	for _, lease := range leases {
		if lease.Status != service.Passing {
			facts.Expired[lease.Node] = cmp.Or(lease.Reason, "its lease is "+cmp.Or(string(lease.Status), "missing"))
		}
	}
	return facts
}

// waiting are the pods on nodes whose gate is not open.
func waiting(ctx context.Context, client kubernetes.Interface) ([]diagnosis.Placed, error) {
	pods, err := placed(ctx, client, corev1.NamespaceAll)
	return slices.DeleteFunc(pods, func(p diagnosis.Placed) bool {
		closed := slices.ContainsFunc(p.Pod.Gates, func(g service.Gate) bool { return g.Type == service.GateReachable && !g.Open })
		return !closed || p.Node == "" || p.Pod.Terminating || p.Pod.Ended()
	}), err
}

// katalog are the DaemonSets that run katalog-sync, by their images.
func katalog(ctx context.Context, client kubernetes.Interface) ([]string, error) {
	sets, err := client.AppsV1().DaemonSets(corev1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list DaemonSets: %w", err)
	}
	var found []string
	for _, set := range sets.Items {
		runs := func(c corev1.Container) bool { return strings.Contains(c.Image, "katalog-sync") }
		if slices.ContainsFunc(set.Spec.Template.Spec.Containers, runs) && !isFairway(set) {
			found = append(found, set.Namespace+"/"+set.Name)
		}
	}
	return found, nil
}

func isFairway(set appsv1.DaemonSet) bool { return set.Labels["app.kubernetes.io/name"] == "fairway" }
