package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
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
	if _, err := c.askSample(ctx, http.MethodPost, podIP, fmt.Sprintf("/ready?set=%t", ready)); err != nil {
		return fmt.Errorf("switch readiness of %s: %w", podIP, err)
	}
	return nil
}

// Call makes a sample app, a pod's or a VM's by its address, call a URL. The name in it is looked up as
// any program in that place would, through the resolvers that the place has. The answer is what the URL
// answered; the error says what the app met.
func (c *Cluster) Call(ctx context.Context, from, target string) (string, error) {
	answer, err := c.askSample(ctx, http.MethodGet, from, "/call?url="+url.QueryEscape(target))
	if err != nil {
		return "", fmt.Errorf("call %s from %s: %w", target, from, err)
	}
	return strings.TrimSpace(answer), nil
}

// askSample makes a request to a sample app and returns what it answered.
func (c *Cluster) askSample(ctx context.Context, method, address, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s:%d%s", address, samplePort, path), nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DialContext: c.Host(clientHost).Dial, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
}
