package workload

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
)

// ConsulK8sNamespace and ConsulK8sSync are where consul-k8s' chart has its catalog
// sync if it is installed as consul, in a namespace of that name.
const (
	ConsulK8sNamespace = "consul"
	ConsulK8sSync      = "consul-sync-catalog"
)

// ConsulK8sNode is the Consul node of consul-k8s' entries.
const ConsulK8sNode = "k8s-sync"

// consulK8sRules are the rights that consul-k8s makes for its sync.
const consulK8sRules = `
node "` + ConsulK8sNode + `" { policy = "write" }
node_prefix ""    { policy = "read" }
service_prefix "" { policy = "write" }
`

// ConsulK8s is consul-k8s' catalog sync, both ways, as its chart runs it.
type ConsulK8s struct {
	kube   kubernetes.Interface
	consul *api.Client // as administrator
	token  *api.ACLToken
	policy *api.ACLPolicy
}

// StartConsulK8s builds the image of consul-k8s' sync, loads it on all nodes, gives it
// its rights in both clusters, and runs it.
func StartConsulK8s(ctx context.Context, lab *cluster.Cluster, kube kubernetes.Interface, out io.Writer) (*ConsulK8s, error) {
	tar, err := images.ConsulK8s(ctx, out)
	if err != nil {
		return nil, err
	}
	if err := lab.LoadImage(ctx, tar); err != nil {
		return nil, err
	}
	k := &ConsulK8s{kube: kube, consul: lab.ConsulServers()[0]}
	for _, step := range []func(context.Context) error{k.createToken, k.createRights, k.run} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("start consul-k8s' catalog sync: %w", err)
		}
	}
	return k, nil
}

func (k *ConsulK8s) createToken(ctx context.Context) (err error) {
	write := new(api.WriteOptions).WithContext(ctx)
	if k.policy, _, err = k.consul.ACL().PolicyCreate(&api.ACLPolicy{Name: ConsulK8sSync, Rules: consulK8sRules}, write); err != nil {
		return err
	}
	k.token, _, err = k.consul.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: k.policy.ID}}}, write)
	return err
}

// createRights gives the sync what its chart gives it.
func (k *ConsulK8s) createRights(ctx context.Context) error {
	meta := metav1.ObjectMeta{Name: ConsulK8sSync}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ConsulK8sNamespace}}
	if _, err := k.kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	if _, err := k.kube.CoreV1().ServiceAccounts(ConsulK8sNamespace).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{}); err != nil {
		return err
	}
	role := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"services", "endpoints"}, Verbs: []string{"get", "list", "watch", "update", "patch", "delete", "create"}},
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get"}},
	}}
	if _, err := k.kube.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return err
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: meta,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: ConsulK8sSync},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ConsulK8sNamespace, Name: ConsulK8sSync}},
	}
	_, err := k.kube.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{})
	return err
}

func (k *ConsulK8s) run(ctx context.Context) error {
	_, err := k.kube.AppsV1().Deployments(ConsulK8sNamespace).Create(ctx, k.deployment(), metav1.CreateOptions{})
	return err
}

// deployment has the flags that the chart's defaults become, but for a shorter interval.
func (k *ConsulK8s) deployment() *appsv1.Deployment {
	labels := map[string]string{"app": "consul", "component": "sync-catalog"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: ConsulK8sSync, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					ServiceAccountName: ConsulK8sSync,
					DNSPolicy:          corev1.DNSDefault,
					Containers: []corev1.Container{{
						Name:            "sync-catalog",
						Image:           images.ConsulK8sRef,
						ImagePullPolicy: corev1.PullNever,
						Args: []string{
							"sync-catalog", "-log-level=info", "-k8s-default-sync=true", "-consul-domain=consul", "-allow-k8s-namespace=*",
							"-deny-k8s-namespace=kube-system", "-deny-k8s-namespace=kube-public", "-k8s-write-namespace=" + ConsulK8sNamespace,
							"-node-port-sync-type=ExternalFirst", "-consul-write-interval=5s", "-consul-k8s-tag=k8s",
							"-consul-node-name=" + ConsulK8sNode, "-add-k8s-namespace-suffix",
						},
						Env: []corev1.EnvVar{
							{Name: "CONSUL_HTTP_ADDR", Value: ConsulServers.address()},
							{Name: "CONSUL_HTTP_TOKEN", Value: k.token.SecretID},
						},
						ReadinessProbe: &corev1.Probe{
							ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/health/ready", Port: intstr.FromInt32(8080)}},
							PeriodSeconds: 1,
						},
					}},
				},
			},
		},
	}
}

// Remove takes away the sync with all that it had and has written, in both clusters.
func (k *ConsulK8s) Remove(ctx context.Context) error {
	if err := k.kube.CoreV1().Namespaces().Delete(ctx, ConsulK8sNamespace, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := k.awaitNoNamespace(ctx); err != nil {
		return fmt.Errorf("remove consul-k8s' catalog sync: %w", err)
	}
	if err := k.kube.RbacV1().ClusterRoleBindings().Delete(ctx, ConsulK8sSync, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := k.kube.RbacV1().ClusterRoles().Delete(ctx, ConsulK8sSync, metav1.DeleteOptions{}); err != nil {
		return err
	}
	write := new(api.WriteOptions).WithContext(ctx)
	if _, err := k.consul.ACL().TokenDelete(k.token.AccessorID, write); err != nil {
		return err
	}
	if _, err := k.consul.ACL().PolicyDelete(k.policy.ID, write); err != nil {
		return err
	}
	_, err := k.consul.Catalog().Deregister(&api.CatalogDeregistration{Node: ConsulK8sNode}, write)
	return err
}

// awaitNoNamespace waits until the last pod of the sync has ended, and writes no more.
func (k *ConsulK8s) awaitNoNamespace(ctx context.Context) error {
	for {
		_, err := k.kube.CoreV1().Namespaces().Get(ctx, ConsulK8sNamespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
