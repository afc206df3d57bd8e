package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/service"
)

const (
	// agentName is the name of the chart's DaemonSet, agentLabels select its pods.
	agentName   = "fairway-agent"
	agentLabels = "app.kubernetes.io/name=fairway,app.kubernetes.io/component=agent"
	// agentPort is where an agent serves HTTP if its pod does not say.
	agentPort = 9980
	// viewTimeout bounds one question to one agent.
	viewTimeout = 10 * time.Second
	// viewsAtOnce bounds the questions to agents at the same time.
	viewsAtOnce = 16
)

// agents are the agents' pods, one a node.
func (a *access) agents(ctx context.Context, kube kubernetes.Interface, node string) ([]corev1.Pod, error) {
	options := metav1.ListOptions{LabelSelector: agentLabels}
	if node != "" {
		options.FieldSelector = "spec.nodeName=" + node
	}
	list, err := kube.CoreV1().Pods(a.FairwayNamespace).List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list the agents in namespace %s: %w", a.FairwayNamespace, err)
	}
	return onePerNode(list.Items), nil
}

// onePerNode picks, where a rollout has two pods on a node, the one that is not
// being deleted, and else the latest.
func onePerNode(pods []corev1.Pod) []corev1.Pod {
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == "" })
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(strings.Compare(a.Spec.NodeName, b.Spec.NodeName), cmp.Compare(leaves(a), leaves(b)),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time))
	})
	return slices.CompactFunc(pods, func(a, b corev1.Pod) bool { return a.Spec.NodeName == b.Spec.NodeName })
}

func leaves(pod corev1.Pod) int {
	if pod.DeletionTimestamp != nil {
		return 1
	}
	return 0
}

// nodeAgents asks all of the agents' pods, several at a time.
func (a *access) nodeAgents(ctx context.Context, kube kubernetes.Interface, pods []corev1.Pod) []diagnosis.NodeAgent {
	found := make([]diagnosis.NodeAgent, len(pods))
	var group errgroup.Group
	group.SetLimit(viewsAtOnce)
	for i, pod := range pods {
		group.Go(func() error {
			found[i] = diagnosis.NodeAgent{Node: pod.Spec.NodeName, AgentFacts: a.ask(ctx, kube, pod)}
			return nil // an agent that does not answer is a fact
		})
	}
	_ = group.Wait()
	return found
}

// ask asks an agent for its view, through the API server.
func (a *access) ask(ctx context.Context, kube kubernetes.Interface, pod corev1.Pod) diagnosis.AgentFacts {
	facts := diagnosis.AgentFacts{Namespace: pod.Namespace, Name: pod.Name, Ready: condition(pod, corev1.PodReady)}
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	answer, err := kube.CoreV1().Pods(pod.Namespace).
		ProxyGet("http", pod.Name, strconv.Itoa(int(port(pod))), nodeview.Path, nil).DoRaw(ctx)
	if err != nil {
		facts.ViewProblem = proxyProblem(err)
		return facts
	}
	var view nodeview.View
	if err := json.Unmarshal(answer, &view); err != nil || view.Node != pod.Spec.NodeName {
		facts.ViewProblem = "its answer is not that of a Fairway agent on node " + pod.Spec.NodeName
		return facts
	}
	facts.View = &view
	return facts
}

// proxyProblem says why the API server gave no answer of an agent.
func proxyProblem(err error) string {
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer within " + viewTimeout.String()
	case apierrors.IsNotFound(err) && errors.As(err, &status) && apierrors.IsUnexpectedServerError(err):
		return "its version does not have " + nodeview.Path + " yet"
	}
	return err.Error()
}

// port is where the agent of a pod serves HTTP.
func port(pod corev1.Pod) int32 {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == "http" {
				return port.ContainerPort
			}
		}
	}
	return agentPort
}

// clusterID reads the cluster's id from the arguments of the agent's container;
// empty if they do not say it.
func clusterID(spec corev1.PodSpec) string {
	for _, container := range spec.Containers {
		for _, arg := range container.Args {
			if id, ok := strings.CutPrefix(arg, "--cluster-id="); ok {
				return id
			}
		}
	}
	return ""
}

// condition is a pod's condition in the core's words.
func condition(pod corev1.Pod, kind corev1.PodConditionType) service.Condition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return service.Condition{
				Status: service.ConditionStatus(c.Status), Reason: c.Reason, Message: c.Message, Since: c.LastTransitionTime.Time,
			}
		}
	}
	return service.Condition{}
}
