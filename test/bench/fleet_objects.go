package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

const (
	benchNamespace = metav1.NamespaceDefault
	// objectsNode is the node that pods without containers are bound to. Nobody
	// but the agent looks at it, and so there is no object for it.
	objectsNode = "objects"
	// pace is the time between two pods of a rolling update.
	pace = 200 * time.Millisecond
	// startup is how long a container is started before it is ready.
	startup = time.Second
	// atOnce is how many requests are made to the API server at the same time.
	atOnce = 16
)

// podsPerApp is how many pods of one app stand on a node at the most. A service
// with all pods of a node as its instances is rare, and who follows it would
// mostly wait for its own reading.
const podsPerApp = 10

// benchApp is one of the apps whose pods are measured. Its pods are instances of
// two services.
func benchApp(number, pods int) workload.App {
	app := workload.App{
		Namespace: benchNamespace, Name: fmt.Sprintf("bench-%d", number), Replicas: int32(pods), LeaveSeconds: 2,
		Annotations: map[string]string{},
	}
	app.Annotations["fairway.dev/service-names"] = strings.Join(servicesOf(app), ",")
	return app
}

// servicesPerPod is how many services servicesOf names.
const servicesPerPod = 2

// servicesOf are the services of an app's pods.
func servicesOf(app workload.App) []string { return []string{app.Name + "-a", app.Name + "-b"} }

// objects are pods that exist at the API server alone. What a kubelet would say
// of them, the bench says.
type objects struct {
	kube kubernetes.Interface
	all  []workload.App
	made int
	pods []*corev1.Pod // in the order of their making
}

func newObjects(kube kubernetes.Interface, pods int) *objects {
	o := &objects{kube: kube, pods: make([]*corev1.Pod, pods)}
	for first := 0; first < pods; first += podsPerApp {
		o.all = append(o.all, benchApp(len(o.all), min(podsPerApp, pods-first)))
	}
	return o
}

func (o *objects) apps() []workload.App { return o.all }

func (o *objects) uids(context.Context) ([]string, error) {
	var uids []string
	for _, pod := range o.pods {
		uids = append(uids, string(pod.UID))
	}
	return uids, nil
}

func (o *objects) start(ctx context.Context) error {
	pods, err := o.makeAll(ctx)
	if err != nil {
		return err
	}
	o.pods = pods
	return each(pods, func(pod *corev1.Pod) error { return o.report(ctx, pod, true) })
}

// makeAll makes as many pods as there should be. Their containers run, and are
// not ready yet.
func (o *objects) makeAll(ctx context.Context) ([]*corev1.Pod, error) {
	pods := make([]*corev1.Pod, len(o.pods))
	for i := range pods {
		pods[i] = o.next()
	}
	return pods, each(pods, func(pod *corev1.Pod) error { return o.make(ctx, pod) })
}

// next is a pod that does not exist yet.
func (o *objects) next() *corev1.Pod {
	app := o.all[o.made%len(o.all)]
	template := app.Deployment().Spec.Template
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Namespace, pod.Name = app.Namespace, fmt.Sprintf("%s-%d", app.Name, o.made)
	pod.Spec.NodeName = objectsNode
	pod.Status.PodIP = netip.AddrFrom4([4]byte{198, 18, byte(128 + o.made>>8%128), byte(o.made)}).String()
	o.made++
	return pod
}

// make makes a pod with started containers.
func (o *objects) make(ctx context.Context, pod *corev1.Pod) error {
	made, err := o.kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	pod.UID = made.UID
	return o.report(ctx, pod, false)
}

// report says what a kubelet says of a pod whose containers run.
func (o *objects) report(ctx context.Context, pod *corev1.Pod, ready bool) error {
	now := metav1.Now()
	containersReady := corev1.ConditionFalse
	if ready {
		containersReady = corev1.ConditionTrue
	}
	status := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, PodIP: pod.Status.PodIP, PodIPs: []corev1.PodIP{{IP: pod.Status.PodIP}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: containersReady, LastTransitionTime: now},
			{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: now},
		},
	}
	for _, container := range pod.Spec.Containers {
		status.ContainerStatuses = append(status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: container.Image, Ready: ready, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = o.kube.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// end asks for the deletion of a pod, as kubectl does.
func (o *objects) end(ctx context.Context, pod *corev1.Pod) error {
	return o.delete(ctx, pod, 30)
}

// vanish removes the object, as a kubelet does when its containers have ended.
func (o *objects) vanish(ctx context.Context, pod *corev1.Pod) error {
	return o.delete(ctx, pod, 0)
}

func (o *objects) delete(ctx context.Context, pod *corev1.Pod, grace int64) error {
	return o.kube.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &grace, Preconditions: &metav1.Preconditions{UID: &pod.UID},
	})
}

func (o *objects) update(ctx context.Context, w *witness) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	group, ctx := errgroup.WithContext(ctx)
	for i, old := range o.pods {
		pod := o.next()
		o.pods[i] = pod
		group.Go(func() error { return o.replace(ctx, w, old, pod) })
		select {
		case <-tick.C:
		case <-ctx.Done():
			return group.Wait()
		}
	}
	return group.Wait()
}

// replace starts a pod, and ends another when that one passes.
func (o *objects) replace(ctx context.Context, w *witness, old, pod *corev1.Pod) error {
	if err := o.make(ctx, pod); err != nil {
		return err
	}
	if err := pause(ctx, startup); err != nil {
		return err
	}
	if err := o.report(ctx, pod, true); err != nil {
		return err
	}
	if err := w.await(ctx, timeline.Passing, string(pod.UID)); err != nil {
		return err
	}
	if err := o.end(ctx, old); err != nil {
		return err
	}
	if err := w.await(ctx, timeline.Out, string(old.UID)); err != nil {
		return err
	}
	return o.vanish(ctx, old)
}

func (o *objects) burst(ctx context.Context, w *witness) error {
	if err := each(o.pods, func(pod *corev1.Pod) error { return o.end(ctx, pod) }); err != nil {
		return err
	}
	uids, _ := o.uids(ctx)
	if err := w.await(ctx, timeline.Out, uids...); err != nil {
		return err
	}
	if err := each(o.pods, func(pod *corev1.Pod) error { return o.vanish(ctx, pod) }); err != nil {
		return err
	}
	pods, err := o.makeAll(ctx)
	if err != nil {
		return err
	}
	o.pods = pods
	if err := pause(ctx, startup); err != nil {
		return err
	}
	if err := each(pods, func(pod *corev1.Pod) error { return o.report(ctx, pod, true) }); err != nil {
		return err
	}
	uids, _ = o.uids(ctx)
	return w.await(ctx, timeline.Passing, uids...)
}

func (o *objects) remove(ctx context.Context) error {
	return each(o.pods, func(pod *corev1.Pod) error { return o.vanish(ctx, pod) })
}

// each does something to all of them, several at a time.
func each[T any](all []T, do func(T) error) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, one := range all {
		group.Go(func() error { return do(one) })
	}
	return group.Wait()
}
