package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/kubelet"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// TestI2ReadinessWithoutAPIServer: what happens on the node reaches clients
// while the API server is away or hangs: through the agent that ran before and
// through one that starts meanwhile.
func TestI2ReadinessWithoutAPIServer(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "autonomous", Replicas: 2}
	pods := deployReady(t, app)
	pod := pods.Pods()[0]
	waitLive(t, pod.Node)

	t.Run("it hangs", func(t *testing.T) {
		undo := apiFault(t, "hang")
		flip(t, app, pod)
		undo()
	})
	t.Run("it is gone", func(t *testing.T) {
		back, err := fleet.lab.Kill(t.Context(), "cp/kube-apiserver")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { undone(t, back) })
		flip(t, app, pod)
		killAgent(t, pod.Node)
		until(t, "the new agent is ready", func(ctx context.Context) (bool, string, error) {
			status, body, err := ask(ctx, pod.Node, "/readyz")
			return status == http.StatusOK && strings.Contains(body, "informer: no complete list yet"), body, err
		})
		flip(t, app, pod)
	})
}

// TestKubeletTellsOfAnEnd: a pod that ends while the agents cannot ask the API
// server is taken out on its kubelet's word.
func TestKubeletTellsOfAnEnd(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "farewell", Replicas: 2}
	pods := deployReady(t, app)
	for _, node := range fleet.lab.Nodes() {
		waitLive(t, node)
	}
	apiFault(t, "403")
	patchDeployment(t, app, `{"spec":{"replicas":0}}`)
	waitPods(t, pods, "the pods are out and gone", func(pods []timeline.Pod) bool {
		return all(pods, timeline.Out) && all(pods, timeline.Deleted)
	})
	until(t, "the entries are removed", func(context.Context) (bool, string, error) {
		found := entries(t, app.Name)
		return len(found) == 0, fmt.Sprintf("%d entries", len(found)), nil
	})
}

// TestI2KubeletRestart: a kubelet that restarts takes nothing away, with the
// API server and without it, and is followed again when it is back.
func TestI2KubeletRestart(t *testing.T) {
	app := fresh(t, workload.App{Name: "patient", Replicas: 4})
	pods := deployReady(t, app)
	pod := pods.Pods()[0]
	client := startLoad(t, app.Name)
	_, before := lookUp(t, app.Name)
	// A kubelet forgets that containers were ready which have just started, and probes
	// them again some time within the period.
	young := fresh(t, workload.App{Name: "young", Replicas: 4})
	youngPods := deployReady(t, young, func(spec *corev1.PodSpec) { spec.Containers[0].ReadinessProbe.PeriodSeconds = 10 })
	_, youngBefore := lookUp(t, young.Name)

	restart := func() {
		back, err := fleet.lab.Stop(t.Context(), pod.Node+"/kubelet")
		if err != nil {
			t.Fatal(err)
		}
		until(t, "the agent notices", func(context.Context) (bool, string, error) {
			live := metric(t, pod.Node, `fairway_source_live{source="podsapi"}`)
			return live == "0", live, nil
		})
		undone(t, back)
	}
	restarted := time.Now().Truncate(time.Second) // as the API rounds
	restart()
	waitLive(t, pod.Node)
	unchanged(t, app, before)

	api, err := fleet.lab.Kill(t.Context(), "cp/kube-apiserver")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { undone(t, api) })
	restart() // it cannot know its pods now
	waitLoad(t, client, 500)
	unchanged(t, app, before)
	undone(t, api)
	waitLive(t, pod.Node)
	unchanged(t, app, before)
	stopLoad(t, client)
	noFlaps(t, pods.Pods())
	flip(t, app, pod)

	waitUnready(t, young, func(n int) bool { return n == 0 })
	unchanged(t, young, youngBefore)
	noFlaps(t, youngPods.Pods())
	since, err := readySince(bounded(t), young)
	if err != nil {
		t.Fatal(err)
	}
	forgotten := len(since) - len(slices.DeleteFunc(slices.Clone(since), func(at time.Time) bool { return !at.Before(restarted) }))
	t.Logf("the kubelet had forgotten %d of %d young pods", forgotten, young.Replicas)
}

// TestI2OldKubeletRestart: a kubelet that restarts and forgets its probes, as
// those before 1.35 do, makes its pods unready for the API server, and for
// nobody else.
func TestI2OldKubeletRestart(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "forgetful", Replicas: 4}
	// Such a kubelet begins to count successes anew, one in a second.
	pods := deployReady(t, app, func(spec *corev1.PodSpec) { spec.Containers[0].ReadinessProbe.SuccessThreshold = 4 })
	node := pods.Pods()[0].Node
	client := startLoad(t, app.Name)
	_, before := lookUp(t, app.Name)

	undo, err := fleet.lab.RestartWith(t.Context(), node+"/kubelet",
		"--feature-gates=PodsAPI=false,ChangeContainerStatusOnKubeletRestart=true")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { undone(t, undo) })
	waitUnready(t, app, func(n int) bool { return n > 0 })
	waitUnready(t, app, func(n int) bool { return n == 0 })
	unchanged(t, app, before)
	stopLoad(t, client)
	noFlaps(t, pods.Pods())
}

// waitUnready waits for a number of the app's pods whose containers the API
// server calls unready.
func waitUnready(t *testing.T, app workload.App, enough func(int) bool) {
	t.Helper()
	until(t, "the API server has another number of unready pods", func(ctx context.Context) (bool, string, error) {
		ready, err := readySince(ctx, app)
		unready := int(app.Replicas) - len(ready)
		return err == nil && enough(unready), fmt.Sprint(unready), err
	})
}

// readySince is since when the API server calls the containers of the app's pods
// ready, of those that it does.
func readySince(ctx context.Context, app workload.App) (since []time.Time, err error) {
	list, err := fleet.kube.CoreV1().Pods(app.Namespace).List(ctx, metav1.ListOptions{LabelSelector: app.Selector()})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		for _, c := range list.Items[i].Status.Conditions {
			if c.Type == corev1.ContainersReady && c.Status == corev1.ConditionTrue {
				since = append(since, c.LastTransitionTime.Time)
			}
		}
	}
	return since, nil
}

// TestI1KubeletList: the kubelet's list at 10250 needs the right nodes/pods and
// no other, and whatever the kubelet answers instead is not believed.
func TestI1KubeletList(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "listed", Replicas: 2}
	pod := deployReady(t, app).Pods()[0]
	config := rest.AnonymousClientConfig(fleet.lab.RESTConfig())
	config.Dial = fleet.lab.Host(pod.Node).Dial
	config.BearerToken = kubeletToken(t, app.Namespace)
	list, err := kubelet.NewPodList(config, fleet.lab.Host(pod.Node).Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- list.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	known := func() bool {
		for _, s := range list.State().Pods {
			if s.Pod.Ref.UID == pod.UID && s.Pod.ContainersReady {
				return true
			}
		}
		return false
	}
	answers := func() {
		until(t, "the kubelet lists the pod", func(context.Context) (bool, string, error) {
			state := list.State()
			return state.Live && known(), state.Problem, nil
		})
	}
	answers()
	var (
		before string
		undo   cluster.Undo
	)
	for _, mode := range []string{"403", "500", "garbage", "empty", "hang"} {
		if undo, err = fleet.lab.KubeletFault(t.Context(), pod.Node, mode); err != nil {
			t.Fatal(err)
		}
		defer undone(t, undo)
		until(t, "this lie, "+mode+", is not believed either", func(context.Context) (bool, string, error) {
			state := list.State()
			return !state.Live && state.Problem != before, state.Problem, nil
		})
		if !known() {
			t.Errorf("%s: the pod is not known any more: %+v", mode, list.State())
		}
		before = list.State().Problem
	}
	undone(t, undo)
	answers()
}

// kubeletToken is a token with the right nodes/pods alone.
func kubeletToken(t *testing.T, namespace string) string {
	t.Helper()
	ctx := bounded(t)
	name := metav1.ObjectMeta{Name: namespace + "-kubelet"}
	subject := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name.Name}
	accounts := fleet.kube.CoreV1().ServiceAccounts(namespace)
	rbac := fleet.kube.RbacV1()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		err := errors.Join(rbac.ClusterRoleBindings().Delete(ctx, name.Name, metav1.DeleteOptions{}),
			rbac.ClusterRoles().Delete(ctx, name.Name, metav1.DeleteOptions{}))
		if err != nil {
			t.Error(err)
		}
	})
	_, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: name}, metav1.CreateOptions{})
	if err == nil {
		_, err = rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: name, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"nodes/pods"}, Verbs: []string{"get"}},
		}}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: name, Subjects: []rbacv1.Subject{subject},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	token, err := accounts.CreateToken(ctx, name.Name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return token.Status.Token
}

// flip makes a pod unready and ready again, and waits for the servers to say
// so each time. It logs how long that took, up to a second of it being the
// kubelet's probe.
func flip(t *testing.T, app workload.App, pod timeline.Pod) {
	t.Helper()
	for _, ready := range []bool{false, true} {
		begin := time.Now()
		if err := fleet.lab.SetReady(bounded(t), pod.IP, ready); err != nil {
			t.Fatal(err)
		}
		want := api.HealthCritical
		if ready {
			want = api.HealthPassing
		}
		until(t, fmt.Sprintf("the servers say %s of %s", want, pod.Name), func(context.Context) (bool, string, error) {
			got := ""
			if entry := entries(t, app.Name)[pod.UID]; entry != nil {
				got = entry.Checks.AggregatedStatus()
			}
			return got == want, got, nil
		})
		t.Logf("%s at the servers %s after the app said so", want, time.Since(begin).Round(time.Millisecond))
	}
}

// waitLive waits until the node's agent follows its kubelet.
func waitLive(t *testing.T, node string) {
	t.Helper()
	until(t, "the agent of "+node+" follows the kubelet", func(context.Context) (bool, string, error) {
		live := metric(t, node, `fairway_source_live{source="podsapi"}`)
		return live == "1", live, nil
	})
}
