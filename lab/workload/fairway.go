package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
)

// Namespace is where Fairway is installed in a lab, AgentName its DaemonSet, and
// ControllerName its Deployment, which is there with ConsulServers.
const (
	Namespace      = "fairway-system"
	AgentName      = "fairway-agent"
	ControllerName = "fairway-controller"
)

// Controllers is how many replicas of the controller run.
const Controllers = 2

// Registry is where a lab's Fairway registers pods; the chart's value registry.
type Registry string

// The values of Registry.
const (
	ConsulAgents  Registry = "agent"   // the nodes' Consul client agents
	ConsulServers Registry = "catalog" // the servers; client agents, if there are any, stand idle
)

// String makes a Registry, with Set and Type, the value of a flag.
func (r *Registry) String() string { return string(*r) }

// Set takes the value of a flag.
func (r *Registry) Set(value string) error {
	if value := Registry(value); value != ConsulAgents && value != ConsulServers {
		return errors.New("must be agent or catalog")
	}
	*r = Registry(value)
	return nil
}

// Type is shown in the help of a flag.
func (r *Registry) Type() string { return "registry" }

// Token is the name of the lab's Consul token for Fairway.
func (r Registry) Token() string {
	if r == ConsulServers {
		return cluster.CatalogToken
	}
	return cluster.AgentToken
}

// secret is the name of the Secret with that token.
func (r Registry) secret() string { return "consul-" + r.Token() }

// address is where Fairway finds Consul.
func (r Registry) address() string {
	if r == ConsulServers {
		return "http://consul.service.consul:8500"
	}
	return "http://127.0.0.1:8500"
}

// KatalogPort is where the agents of a lab serve katalog-sync's RPC.
const KatalogPort = "9983"

// InstallFairway builds the images, loads them on all nodes and installs
// Fairway from its chart, as a user would, with values of the chart beside those
// that the lab needs. It returns when the agents of all nodes are ready with
// them.
func InstallFairway(ctx context.Context, lab *cluster.Cluster, registry Registry, out io.Writer, values ...string) error {
	set, err := images.Ensure(ctx, out)
	if err != nil {
		return err
	}
	for _, tar := range []string{set.Fairway, set.Sample} {
		if err := lab.LoadImage(ctx, tar); err != nil {
			return err
		}
	}
	return Configure(ctx, lab, registry, values...)
}

// Configure installs Fairway whose images are loaded, or gives the one that is
// installed these values. What that leaves behind in another registry is left to
// the caller; see docs/registries.md.
func Configure(ctx context.Context, lab *cluster.Cluster, registry Registry, values ...string) error {
	if err := createToken(ctx, lab, registry); err != nil {
		return err
	}
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return fmt.Errorf("find Fairway's chart: %w", err)
	}
	folder, socket := lab.PodsAPI()
	args := []string{"upgrade", "--install", "fairway", filepath.Join(checkout.Root, "deploy", "chart"),
		"--namespace", Namespace, "--wait", "--timeout", "2m",
		"--set", "clusterID=" + lab.ClusterID(),
		"--set", "registry=" + string(registry), "--set", "consul.address=" + registry.address(),
		"--set", "podsAPI.folder=" + folder, "--set", "podsAPI.socket=" + socket,
		"--set", "image.tag=dev", "--set", "image.pullPolicy=Never",
		"--set", "drain.katalogPort=" + KatalogPort,
		"--set", "consul.tokenSecret.name=" + registry.secret()}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	if _, err := lab.Helm(ctx, args...); err != nil {
		return fmt.Errorf("install Fairway: %w", err)
	}
	return nil
}

// UninstallFairway removes what InstallFairway has installed, as a user would. It
// returns when the last agent has ended: by itself Helm waits for the DaemonSet
// alone.
func UninstallFairway(ctx context.Context, lab *cluster.Cluster) error {
	if _, err := lab.Helm(ctx, "uninstall", "fairway", "--namespace", Namespace, "--cascade", "foreground", "--wait", "--timeout", "2m"); err != nil {
		return fmt.Errorf("uninstall Fairway: %w", err)
	}
	return nil
}

// createToken puts Fairway's Consul token where its chart expects it.
func createToken(ctx context.Context, lab *cluster.Cluster, registry Registry) error {
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	if _, err := kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", Namespace, err)
	}
	secrets := kube.CoreV1().Secrets(Namespace)
	if _, err := secrets.Create(ctx, tokenSecret(lab, registry), metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the secret with Fairway's Consul token: %w", err)
	}
	return nil
}

func tokenSecret(lab *cluster.Cluster, registry Registry) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: registry.secret()},
		StringData: map[string]string{"token": lab.ConsulToken(registry.Token())},
	}
}

// SetToken gives the agents the lab's current Consul token, as an administrator
// does who does not want to wait: a kubelet renews the files of a Secret when
// it next looks at a pod, and an annotation makes it look.
func SetToken(ctx context.Context, lab *cluster.Cluster, kube kubernetes.Interface, registry Registry) error {
	if _, err := kube.CoreV1().Secrets(Namespace).Update(ctx, tokenSecret(lab, registry), metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("replace Fairway's Consul token: %w", err)
	}
	pods, err := kube.CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=fairway"})
	if err != nil {
		return fmt.Errorf("replace Fairway's Consul token: %w", err)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"token-replaced":%q}}}`, time.Now().Format(time.RFC3339Nano))
	for _, pod := range pods.Items {
		if _, err := kube.CoreV1().Pods(Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("replace Fairway's Consul token: %w", err)
		}
	}
	return nil
}

// Shell prepares the command fairway as an administrator outside the cluster
// runs it: with the administrator's kubeconfig, and with the token of Fairway at
// the first Consul server. program is its path.
func Shell(ctx context.Context, lab *cluster.Cluster, program string, args ...string) *exec.Cmd {
	cmd := lab.Host("client").Command(ctx, program, args...)
	cmd.Env = append(cmd.Environ(), "KUBECONFIG="+lab.Kubeconfig(),
		"CONSUL_HTTP_ADDR=http://"+netip.AddrPortFrom(lab.Host("consul-1").Addr, 8500).String(),
		"CONSUL_HTTP_TOKEN="+lab.ConsulToken(cluster.AgentToken))
	return cmd
}

// AskAgent makes a request to the HTTP port of a node's agent, from the node.
func AskAgent(ctx context.Context, lab *cluster.Cluster, node, path string) (status int, body string, err error) {
	client := &http.Client{Transport: &http.Transport{DialContext: lab.Host(node).Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9980"+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}
