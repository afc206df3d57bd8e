package cli

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/diagnosis"
)

const controllerLabels = "app.kubernetes.io/name=fairway,app.kubernetes.io/component=controller"

// controllers looks at Fairway's controllers and asks each whether it is ready.
func (a *access) controllers(ctx context.Context, client kubernetes.Interface, leased bool) diagnosis.Controllers {
	var found diagnosis.Controllers
	if leased {
		found.Needed = "nobody notices that a node has died"
	}
	deployment, err := client.AppsV1().Deployments(a.FairwayNamespace).Get(ctx, controllerName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return found
	case err != nil:
		found.Problem = err.Error()
		return found
	}
	found.Installed, found.Wanted = true, 1
	if deployment.Spec.Replicas != nil {
		found.Wanted = int(*deployment.Spec.Replicas)
	}
	pods, err := client.CoreV1().Pods(a.FairwayNamespace).List(ctx, metav1.ListOptions{LabelSelector: controllerLabels})
	if err != nil {
		found.Problem = fmt.Sprintf("list the controllers: %v", err)
		return found
	}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			found.Replicas = append(found.Replicas, replica(ctx, client, pod))
		}
	}
	return found
}

// replica asks a controller, through the API server.
func replica(ctx context.Context, client kubernetes.Interface, pod corev1.Pod) diagnosis.Replica {
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	answer, err := client.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, strconv.Itoa(int(port(pod))), "/readyz", nil).DoRaw(ctx)
	r := diagnosis.Replica{Name: pod.Name, Says: string(answer)}
	// One that is not ready says why with the same code as an API server that cannot
	// reach it, which answers with an object.
	if err != nil && (!apierrors.IsServiceUnavailable(err) || len(answer) == 0 || answer[0] == '{') {
		r.Says, r.Problem = "", proxyProblem(err)
	}
	return r
}
