package workload

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
)

// Namespace is where Fairway is installed in a lab.
const Namespace = "fairway-system"

// KatalogPort is where the agents of a lab serve katalog-sync's RPC.
const KatalogPort = "9983"

// InstallFairway builds the images, loads them on all nodes and installs
// Fairway from its chart, as a user would. It returns when the agents of all
// nodes are ready.
func InstallFairway(ctx context.Context, lab *cluster.Cluster, out io.Writer) error {
	set, err := images.Ensure(ctx, out)
	if err != nil {
		return err
	}
	for _, tar := range []string{set.Fairway, set.Sample} {
		if err := lab.LoadImage(ctx, tar); err != nil {
			return err
		}
	}
	if err := createToken(ctx, lab); err != nil {
		return err
	}
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return fmt.Errorf("find Fairway's chart: %w", err)
	}
	_, err = lab.Helm(ctx, "upgrade", "--install", "fairway", filepath.Join(checkout.Root, "deploy", "chart"),
		"--namespace", Namespace, "--wait", "--timeout", "2m",
		"--set", "clusterID=lab",
		"--set", "image.tag=dev", "--set", "image.pullPolicy=Never",
		"--set", "drain.katalogPort="+KatalogPort,
		"--set", "consul.tokenSecret.name=fairway-consul-token")
	if err != nil {
		return fmt.Errorf("install Fairway: %w", err)
	}
	return nil
}

// createToken puts Fairway's Consul token where its chart expects it.
func createToken(ctx context.Context, lab *cluster.Cluster) error {
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	if _, err := kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", Namespace, err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "fairway-consul-token"},
		StringData: map[string]string{"token": lab.FairwayToken()},
	}
	if _, err := kube.CoreV1().Secrets(Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the secret with Fairway's Consul token: %w", err)
	}
	return nil
}
