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
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/kube"
)

// consulTimeout bounds the questions to Consul, so that what else was found is
// told while Consul is away.
const consulTimeout = 10 * time.Second

// mostEvents is how many Events are told, the latest.
const mostEvents = 5

func whyCommand(access *access) *cobra.Command {
	return &cobra.Command{
		Use:   "why POD",
		Short: "Say why clients find a pod or do not, and what to do",
		Long: `why looks at one pod: what it declares, how it is, what the agent of its node
does about it, what the Consul servers give to clients, and what Fairway has
written on it. The last line is what to do next.

Exit code: 0 clients find the pod, or it leaves as it should; 1 something keeps
them from it; 2 it could not be found out.`,
		Example: `  fairway why web-5d9c7-x2x4q
  fairway why -n shop pod/web-5d9c7-x2x4q`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := podName(args)
			if err != nil {
				return err
			}
			ctx, cancel := access.bound(cmd.Context())
			defer cancel()
			facts, err := access.podFacts(ctx, name)
			if err != nil {
				return err
			}
			report := diagnosis.Why(facts)
			err = access.print(cmd.OutOrStdout(), report, func(out io.Writer) error {
				return writeReport(out, report.Headline, report.Sections, report.Next)
			})
			return cmp.Or(err, verdict(report.Fine()))
		},
		ValidArgsFunction: access.completePod,
	}
}

// podName reads the pod that is asked about, in the forms that kubectl takes.
func podName(args []string) (string, error) {
	kind, name, ok := strings.Cut(args[0], "/")
	switch {
	case len(args) == 2 && !ok:
		name = args[1]
	case len(args) == 2:
		return "", fmt.Errorf("%s %s: name one pod, as pod/NAME or NAME", args[0], args[1])
	case !ok:
		kind, name = "pod", args[0]
	}
	if slices.Contains([]string{"service", "services", "svc"}, kind) {
		return "", fmt.Errorf("%s: why looks at a pod; of a Service says fairway services -n NAMESPACE %s", strings.Join(args, " "), cmp.Or(name, "NAME"))
	}
	if !slices.Contains([]string{"pod", "pods", "po"}, kind) || name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("%s: name one pod, as pod/NAME or NAME, and its namespace with -n", strings.Join(args, " "))
	}
	return name, nil
}

// completePod offers the pods of the namespace.
func (a *access) completePod(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, none
	}
	ctx, cancel := a.bound(cmd.Context())
	defer cancel()
	client, namespace, err := a.inNamespace()
	if err != nil {
		return nil, none
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, none
	}
	var names []string
	for _, pod := range pods.Items {
		names = append(names, pod.Name)
	}
	return names, none
}

// inNamespace is a client, and the namespace that the user works in.
func (a *access) inNamespace() (kubernetes.Interface, string, error) {
	client, err := a.kubernetes()
	if err != nil {
		return nil, "", err
	}
	namespace, err := a.namespace()
	return client, namespace, err
}

// podFacts looks at all that has to do with a pod.
func (a *access) podFacts(ctx context.Context, name string) (diagnosis.PodFacts, error) {
	client, namespace, err := a.inNamespace()
	if err != nil {
		return diagnosis.PodFacts{}, err
	}
	pod, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return diagnosis.PodFacts{}, fmt.Errorf("namespace %s has no pod %s; if clients are still given it, fairway verify says so", namespace, name)
	case err != nil:
		return diagnosis.PodFacts{}, fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
	}
	facts := diagnosis.PodFacts{
		Pod: kube.Pod(pod), Node: pod.Spec.NodeName, Created: pod.CreationTimestamp.Time,
		Unscheduled: condition(*pod, corev1.PodScheduled).Message, Ready: condition(*pod, corev1.PodReady),
	}
	facts.Declared = annotation.Parse(facts.Pod)
	if pod.DeletionTimestamp != nil { // the time at which it ends at the latest
		facts.Killed = pod.DeletionTimestamp.Time
		facts.Deleted = facts.Killed
		if grace := pod.DeletionGracePeriodSeconds; grace != nil {
			facts.Deleted = facts.Killed.Add(-time.Duration(*grace) * time.Second)
		}
	}
	facts.Agent, facts.Cluster = a.agentOf(ctx, client, pod.Spec.NodeName)
	facts.Listings = a.listings(ctx, namesOf(facts))
	facts.Events, facts.EventsProblem = events(ctx, client, pod)
	facts.Now = time.Now()
	return facts, nil
}

// agentOf is the agent of a node, and the cluster's id as far as it is known.
func (a *access) agentOf(ctx context.Context, client kubernetes.Interface, node string) (diagnosis.AgentFacts, string) {
	none := diagnosis.AgentFacts{Namespace: a.FairwayNamespace}
	if node == "" {
		return none, ""
	}
	pods, err := a.agents(ctx, client, node)
	if err == nil && len(pods) == 0 {
		var elsewhere []corev1.Pod
		if elsewhere, err = a.agents(ctx, client, ""); err == nil && len(elsewhere) == 0 {
			err = fmt.Errorf("namespace %s has no agents at all, and Fairway may be in another (--fairway-namespace)", a.FairwayNamespace)
		}
	}
	if err != nil {
		none.Problem = err.Error()
	}
	if err != nil || len(pods) == 0 {
		return none, ""
	}
	facts, cluster := a.ask(ctx, client, pods[0]), clusterID(pods[0].Spec)
	if facts.View != nil {
		cluster = facts.View.Cluster
	}
	return facts, cluster
}

// namesOf are the services to ask the servers about: those that the pod
// declares, and those that its agent has registered for it.
func namesOf(facts diagnosis.PodFacts) []string {
	names := slices.Clone(facts.Declared.Services)
	if facts.Agent.View != nil {
		for _, entry := range facts.Agent.View.Entries {
			if entry.Pod.UID == facts.Pod.Ref.UID && !slices.Contains(names, entry.Service) {
				names = append(names, entry.Service)
			}
		}
	}
	return names
}

// listings is what the servers hold under the names.
func (a *access) listings(ctx context.Context, names []string) []diagnosis.Listing {
	ctx, cancel := context.WithTimeout(ctx, consulTimeout)
	defer cancel()
	client, err := a.consul()
	if err != nil {
		var listings []diagnosis.Listing
		for _, name := range names {
			listings = append(listings, diagnosis.Listing{Service: name, Problem: err.Error()})
		}
		return listings
	}
	return health.List(ctx, client, names)
}

// events are what Fairway has told on the pod, the latest last.
func events(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) ([]diagnosis.Event, string) {
	list, err := client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + string(pod.UID) + ",source=" + agentName,
	})
	if err != nil {
		return nil, err.Error()
	}
	var found []diagnosis.Event
	for _, event := range list.Items {
		found = append(found, diagnosis.Event{
			Warning: event.Type == corev1.EventTypeWarning, Reason: event.Reason, Message: event.Message,
			Last: event.LastTimestamp.Time, Count: int(event.Count),
		})
	}
	slices.SortStableFunc(found, func(a, b diagnosis.Event) int { return a.Last.Compare(b.Last) })
	return found[max(0, len(found)-mostEvents):], ""
}

// verdict is how a command ends that has said what it found.
func verdict(fine, known bool) error {
	switch {
	case !known:
		return unknown{}
	case !fine:
		return no{}
	}
	return nil
}
