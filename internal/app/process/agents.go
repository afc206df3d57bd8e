package process

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"fairway.dev/fairway/internal/nodeview"
)

// probeWithin is how long an agent may take to answer at its port.
const probeWithin = time.Second

// Agents asks the agents of nodes at their ports whether they live.
type Agents struct {
	port   int
	client *http.Client
}

// NewAgents makes Agents that serve at a port, each at its node's address.
func NewAgents(port int) *Agents {
	return &Agents{port, &http.Client{
		Timeout: probeWithin,
		// A connection that was made before says little of the node now.
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: probeWithin}).DialContext},
		// What answers with a redirection is no agent.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Answer tells whether the agent of that node answers, whatever it says: one
// that is not well lives too. Another's answer at the address does not count.
func (p *Agents) Answer(ctx context.Context, cluster, node string, address netip.Addr) bool {
	url := "http://" + net.JoinHostPort(address.String(), strconv.Itoa(p.port)) + "/healthz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	response, err := p.client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.Header.Get(nodeview.HeaderCluster) == cluster && response.Header.Get(nodeview.HeaderNode) == node
}
