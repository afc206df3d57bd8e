package workload

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/consul/api"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/lab/cluster"
)

// AuthMethod is the auth method of the lab's Consul that LogIn makes, but for
// the lab's ConsulName.
const AuthMethod = "k8s"

// reviewer is the service account by which Consul asks the API server about
// those who log in.
const reviewer = "consul-auth-method"

// LogIn makes the Fairway that is installed log in to Consul with its service
// accounts, as docs/registries.md says, instead of using a token
// from a Secret. It returns when the agents of all nodes have moved. A lab can do
// that once; SwitchRegistry undoes what it does to Fairway.
func LogIn(ctx context.Context, lab *cluster.Cluster, kube kubernetes.Interface, registry Registry) error {
	jwt, err := makeReviewer(ctx, kube)
	if err != nil {
		return fmt.Errorf("make the account of Consul's auth method: %w", err)
	}
	if err := makeAuthMethod(ctx, lab, registry, jwt); err != nil {
		return fmt.Errorf("make Consul's auth method %s: %w", lab.ConsulName(AuthMethod), err)
	}
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return fmt.Errorf("find Fairway's chart: %w", err)
	}
	_, err = lab.Helm(ctx, "upgrade", "fairway", filepath.Join(checkout.Root, "deploy", "chart"),
		"--namespace", Namespace, "--wait", "--timeout", "2m", "--reuse-values",
		"--set", "consul.tokenSecret.name=", "--set", "consul.login.authMethod="+lab.ConsulName(AuthMethod))
	if err != nil {
		return fmt.Errorf("let Fairway log in: %w", err)
	}
	return nil
}

// makeReviewer returns the token of an account with the rights that Consul's
// auth method needs.
func makeReviewer(ctx context.Context, kube kubernetes.Interface) (jwt string, err error) {
	name := metav1.ObjectMeta{Name: reviewer}
	role := &rbacv1.ClusterRole{ObjectMeta: name, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"get"}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: name,
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: reviewer},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: Namespace, Name: reviewer}},
	}
	if _, err := kube.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	if _, err := kube.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	accounts := kube.CoreV1().ServiceAccounts(Namespace)
	if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: name}, metav1.CreateOptions{}); err != nil {
		return "", err
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(24 * 60 * 60))}}
	request, err = accounts.CreateToken(ctx, reviewer, request, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return request.Status.Token, nil
}

// makeAuthMethod gives Fairway's service account the rights of the registry.
func makeAuthMethod(ctx context.Context, lab *cluster.Cluster, registry Registry, jwt string) error {
	admin, method, name := lab.RESTConfig(), lab.ConsulName(AuthMethod), lab.ConsulName(registry.Token())
	acl, write := lab.ConsulServers()[0].ACL(), new(api.WriteOptions).WithContext(ctx)
	_, _, err := acl.AuthMethodCreate(&api.ACLAuthMethod{
		Name: method, Type: "kubernetes", MaxTokenTTL: 24 * time.Hour,
		Config: map[string]any{"Host": admin.Host, "CACert": string(admin.CAData), "ServiceAccountJWT": jwt},
	}, write)
	if err != nil {
		return err
	}
	role := &api.ACLRole{Name: name, Policies: []*api.ACLLink{{Name: name}}}
	if _, _, err := acl.RoleCreate(role, write); err != nil {
		return err
	}
	_, _, err = acl.BindingRuleCreate(&api.ACLBindingRule{
		AuthMethod: method, BindType: api.BindingRuleBindTypeRole, BindName: role.Name,
		Selector: fmt.Sprintf("serviceaccount.namespace==%q and (serviceaccount.name==%q or serviceaccount.name==%q)", Namespace, AgentName, ControllerName),
	}, write)
	return err
}
