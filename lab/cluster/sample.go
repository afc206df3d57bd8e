package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// samplePort is the port of the lab's sample app.
const samplePort = 8080

// Unready makes a pod of the lab's sample app, NAME or NAMESPACE/NAME, say that it is not ready. Undo
// makes it ready again.
func (c *Cluster) Unready(ctx context.Context, pod string) (Undo, error) {
	namespace, name, ok := strings.Cut(pod, "/")
	if !ok {
		namespace, name = metav1.NamespaceDefault, pod
	}
	kube, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return nil, err
	}
	found, err := kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("find pod %s/%s: %w", namespace, name, err)
	}
	ip := found.Status.PodIP
	if ip == "" {
		return nil, fmt.Errorf("pod %s/%s has no address yet", namespace, name)
	}
	return func(ctx context.Context) error { return c.SetReady(ctx, ip, true) }, c.SetReady(ctx, ip, false)
}

// SetReady switches the readiness of a pod of the lab's sample app, by the pod's address. The pod's
// kubelet notices with its next probe.
func (c *Cluster) SetReady(ctx context.Context, podIP string, ready bool) error {
	url := fmt.Sprintf("http://%s:%d/ready?set=%t", podIP, samplePort, ready)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return fmt.Errorf("switch readiness of %s: %w", podIP, err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: c.Host(clientHost).Dial, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("switch readiness of %s: %w", podIP, err)
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		body, _ := io.ReadAll(response.Body)
		return fmt.Errorf("switch readiness of %s: %s: %s", podIP, response.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
