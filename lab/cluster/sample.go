package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// samplePort is the port of the lab's sample app.
const samplePort = 8080

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
