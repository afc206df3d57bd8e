package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// surge is how many pods a rolling update of containers replaces at a time.
const surge = 5

// containers are the pods of a Deployment, run by the node's kubelet.
type containers struct {
	kube   kubernetes.Interface
	app    workload.App
	rounds int
}

func newContainers(kube kubernetes.Interface, pods int) *containers {
	return &containers{kube: kube, app: benchApp(0, pods)}
}

func (c *containers) apps() []workload.App { return []workload.App{c.app} }

func (c *containers) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	deployment := c.app.Deployment()
	most := intstr.FromInt32(surge)
	deployment.Spec.Strategy.RollingUpdate.MaxSurge = &most
	if _, err := c.kube.AppsV1().Deployments(c.app.Namespace).Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		return err
	}
	for {
		ready, err := c.ready(ctx)
		if err != nil || ready == int(c.app.Replicas) {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("%d of %d pods have ready containers: %w", ready, c.app.Replicas, err)
		}
	}
}

// ready counts the pods whose containers are ready.
func (c *containers) ready(ctx context.Context) (n int, err error) {
	pods, err := c.kube.CoreV1().Pods(c.app.Namespace).List(ctx, metav1.ListOptions{LabelSelector: c.app.Selector()})
	if err != nil {
		return 0, err
	}
	for _, pod := range pods.Items {
		if len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].Ready {
			n++
		}
	}
	return n, nil
}

func (c *containers) uids(ctx context.Context) ([]string, error) {
	pods, err := c.kube.CoreV1().Pods(c.app.Namespace).List(ctx, metav1.ListOptions{LabelSelector: c.app.Selector()})
	if err != nil {
		return nil, err
	}
	var uids []string
	for _, pod := range pods.Items {
		uids = append(uids, string(pod.UID))
	}
	return uids, nil
}

func (c *containers) update(ctx context.Context, w *witness) error {
	c.rounds++
	if err := c.patch(ctx, `{"spec":{"template":{"metadata":{"annotations":{"bench-round":"%d"}}}}}`, c.rounds); err != nil {
		return err
	}
	return w.until(ctx, "all pods are replaced", replaced(w.began, int(c.app.Replicas)))
}

func (c *containers) burst(ctx context.Context, w *witness) error {
	if err := c.patch(ctx, `{"spec":{"replicas":%d}}`, 0); err != nil {
		return err
	}
	gone := func(pods []timeline.Pod) bool { return living(pods) == 0 }
	if err := w.until(ctx, "all pods are gone", gone); err != nil {
		return err
	}
	if err := c.patch(ctx, `{"spec":{"replicas":%d}}`, int(c.app.Replicas)); err != nil {
		return err
	}
	return w.until(ctx, "all pods are there again", replaced(w.began, int(c.app.Replicas)))
}

func (c *containers) patch(ctx context.Context, format string, value int) error {
	_, err := c.kube.AppsV1().Deployments(c.app.Namespace).Patch(ctx, c.app.Name, types.MergePatchType, fmt.Appendf(nil, format, value), metav1.PatchOptions{})
	return err
}

func (c *containers) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	policy := metav1.DeletePropagationForeground
	err := c.kube.AppsV1().Deployments(c.app.Namespace).Delete(ctx, c.app.Name, metav1.DeleteOptions{PropagationPolicy: &policy})
	for err == nil {
		var left []string
		if left, err = c.uids(ctx); len(left) == 0 {
			return err
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("%d pods are still there: %w", len(left), err)
		}
	}
	return err
}
