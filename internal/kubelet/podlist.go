package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/kube"
)

const (
	// Port is where a kubelet serves its API.
	Port = "10250"
	// pollEvery is how often /pods is read: a list of 110 pods costs the kubelet
	// and the agent some 10 ms each time.
	pollEvery   = 5 * time.Second
	pollTimeout = 5 * time.Second
)

// PodList is the node's pods as its kubelet lists them at /pods, with the right
// nodes/pods. Their status is what the API server has told the kubelet, so that
// it is neither newer than a watch nor there while the API server is away. It
// spares the API server the watch.
type PodList struct {
	client *http.Client
	url    string
	*kube.Store
}

// NewPodList makes a PodList for the kubelet at address, a host or host:port.
// It logs in as config does, and the kubelet's certificate must come from the CA
// of config, which is the API server's.
func NewPodList(config *rest.Config, address string) (*PodList, error) {
	if config == nil || address == "" {
		return nil, errors.New("kubelet's list of pods: a configuration and the kubelet's address are required")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = strings.Trim(address, "[]"), Port
	}
	config = rest.CopyConfig(config)
	config.Timeout = pollTimeout
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client for the kubelet at %s: %w", address, err)
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	at := url.URL{Scheme: "https", Host: net.JoinHostPort(host, port), Path: "/pods"}
	return &PodList{client: client, url: at.String(), Store: kube.NewStore()}, nil
}

// Run polls until ctx ends.
func (p *PodList) Run(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if err := p.poll(ctx); err != nil {
			p.Silent(err.Error())
		} else {
			p.Answers()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (p *PodList) poll(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return err
	}
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
	if err != nil {
		return fmt.Errorf("list pods: read the answer: %w", err)
	}
	pods, err := readList(response.StatusCode, body)
	if err != nil {
		return fmt.Errorf("list pods: %w", err)
	}
	return p.Replace(pods, "")
}

// readList reads an answer to GET /pods. Only a list of pods that can be
// complete is one.
func readList(code int, body []byte) ([]any, error) {
	const excerpt = 200
	if code != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", code, strings.ToValidUTF8(string(body[:min(len(body), excerpt)]), "?"))
	}
	var list corev1.PodList
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("the answer is not JSON: %w", err)
	}
	if list.Kind != "PodList" || list.APIVersion != "v1" {
		return nil, fmt.Errorf("the answer is a %q of %q, not a list of pods", list.Kind, list.APIVersion)
	}
	pods := make([]*corev1.Pod, 0, len(list.Items))
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	return complete(pods)
}
