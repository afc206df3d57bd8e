package diagnosis

import (
	"strings"

	"fairway.dev/fairway/internal/service"
)

// What lets more be found out.
const (
	remedyConsulAccess = "let this shell reach Consul: set CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN, or --consul-address and --consul-token-file"
	remedyServers      = "see whether the Consul servers run, are reached from the node and have a leader"
	remedyAgentAccess  = "you need the right to get pods/proxy in Fairway's namespace (docs/cli.md)"
)

// remedies are what to do about a pod.
type remedies struct{ ref service.PodRef }

// describe is a command about the pod, as it can be pasted.
func (r remedies) describe() string {
	return "kubectl -n " + r.ref.Namespace + " describe pod " + r.ref.Name
}

// registryRemedy is what to do about a registry that does not take or give what
// it is asked for, as far as the reason tells.
func registryRemedy(reason string) string {
	switch {
	case strings.Contains(reason, "ACL"):
		return "give the agents' Consul token the rights of docs/registries.md#rights, or give them a token that is good"
	case strings.Contains(reason, "belongs to cluster"):
		return "two clusters use one id, or a node has changed its name: see clusterID in docs/install.md"
	case strings.Contains(reason, "not complete yet"):
		return "wait until the agent has read the node's pods; see its log if it does not"
	}
	return "see whether Consul answers on the node and its servers have a leader; nothing is lost meanwhile, and the agent tries again by itself"
}
