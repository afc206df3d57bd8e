package workload

import (
	"context"
	"fmt"
	"io"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
)

// katalogSync is the name of everything that katalog-sync needs, and of its
// DaemonSet, in the namespace in which its own manifests have it.
const (
	katalogSync          = "katalog-sync"
	katalogSyncNamespace = metav1.NamespaceSystem
)

// KatalogSync is katalog-sync's own daemon on all nodes, as its own manifests
// run it.
type KatalogSync struct {
	lab  *cluster.Cluster
	kube kubernetes.Interface
}

// PrepareKatalogSync builds katalog-sync's image, loads it on all nodes and gives
// it its rights. It runs nothing yet.
func PrepareKatalogSync(ctx context.Context, lab *cluster.Cluster, kube kubernetes.Interface, out io.Writer) (*KatalogSync, error) {
	tar, err := images.KatalogSync(ctx, out)
	if err != nil {
		return nil, err
	}
	if err := lab.LoadImage(ctx, tar); err != nil {
		return nil, err
	}
	k := &KatalogSync{lab: lab, kube: kube}
	if err := k.createRights(ctx); err != nil {
		return nil, fmt.Errorf("prepare katalog-sync: %w", err)
	}
	return k, nil
}

// createRights gives katalog-sync what its manifests give it.
func (k *KatalogSync) createRights(ctx context.Context) error {
	meta := metav1.ObjectMeta{Name: katalogSync}
	account := &corev1.ServiceAccount{ObjectMeta: meta}
	if _, err := k.kube.CoreV1().ServiceAccounts(katalogSyncNamespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	role := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"nodes/proxy", "nodes/metrics"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"pods/status"}, Verbs: []string{"patch"}},
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list", "get"}},
	}}
	if _, err := k.kube.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: katalogSync},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: katalogSyncNamespace, Name: katalogSync}},
	}
	_, err := k.kube.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	return err
}

// Start runs the daemon on all nodes.
func (k *KatalogSync) Start(ctx context.Context) error {
	if _, err := k.kube.AppsV1().DaemonSets(katalogSyncNamespace).Create(ctx, k.daemonSet(), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("start katalog-sync: %w", err)
	}
	return nil
}

// Stop ends the daemon on all nodes, if it runs, and returns when none is left.
// What it has registered stays.
func (k *KatalogSync) Stop(ctx context.Context) error {
	sets := k.kube.AppsV1().DaemonSets(katalogSyncNamespace)
	foreground := metav1.DeletePropagationForeground // the DaemonSet goes after its pods
	err := sets.Delete(ctx, katalogSync, metav1.DeleteOptions{PropagationPolicy: &foreground})
	for err == nil {
		if _, err = sets.Get(ctx, katalogSync, metav1.GetOptions{}); err != nil {
			break
		}
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("stop katalog-sync: %w", err)
	}
	return nil
}

// Remove ends the daemon, if it runs, and takes its rights away.
func (k *KatalogSync) Remove(ctx context.Context) error {
	if err := k.Stop(ctx); err != nil {
		return err
	}
	if err := k.kube.RbacV1().ClusterRoleBindings().Delete(ctx, katalogSync, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := k.kube.RbacV1().ClusterRoles().Delete(ctx, katalogSync, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return k.kube.CoreV1().ServiceAccounts(katalogSyncNamespace).Delete(ctx, katalogSync, metav1.DeleteOptions{})
}

func (k *KatalogSync) daemonSet() *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": katalogSync}
	grace := int64(5)
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: katalogSync, Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					ServiceAccountName:            katalogSync,
					HostNetwork:                   true,
					DNSPolicy:                     corev1.DNSDefault,
					TerminationGracePeriodSeconds: &grace,
					Containers: []corev1.Container{{
						Name:            "katalog-sync-daemon",
						Image:           images.KatalogSyncRef,
						ImagePullPolicy: corev1.PullNever,
						Args:            []string{"--bind-address=:8501"},
						Env: []corev1.EnvVar{
							{Name: "NODE_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.hostIP"}}},
							{Name: "KUBELET_API", Value: "https://$(NODE_IP):10250/pods"},
							{Name: "KUBELET_API_INSECURE_SKIP_VERIFY", Value: "true"},
							{Name: "CONSUL_HTTP_ADDR", Value: "127.0.0.1:8500"},
							{Name: "CONSUL_HTTP_TOKEN", Value: k.lab.ConsulToken(cluster.AgentToken)},
						},
					}},
				},
			},
		},
	}
}
