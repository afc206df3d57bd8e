package main

import (
	"os"
	"path/filepath"
	"strings"

	"fairway.dev/fairway/internal/app/agent"
	"fairway.dev/fairway/lab/cluster"
)

// startAgent starts the agent for the row's pods. It watches a node of its own,
// unless the pods are containers.
func (b *agentBench) startAgent(s rowSpec) (*process, error) {
	consul := "http://127.0.0.1:8500"
	if s.registry == agent.RegistryCatalog {
		consul = "http://" + b.lab.Host("consul-1").Addr.String() + ":8500"
	}
	args := []string{
		"--cluster-id=" + cluster.ClusterID, "--registry=" + s.registry, "--consul-address=" + consul, "--consul-token-file=" + b.tokens[s.registry],
		"--kubeconfig=" + b.lab.Kubeconfig(), "--node-address=" + b.lab.Host(b.node).Addr.String(),
	}
	if s.containers {
		folder, socket := b.lab.PodsAPI()
		args = append(args, "--node-name="+b.node, "--pods-api-socket="+filepath.Join(folder, strings.ReplaceAll(socket, "$(NODE_NAME)", b.node)))
	} else {
		args = append(args, "--node-name="+objectsNode, "--pod-source=informer")
	}
	return start(b.lab.Host(b.node), b.program, args)
}

// writeTokens writes the files with the tokens, by registry.
func writeTokens(lab *cluster.Cluster) (map[string]string, error) {
	folder, err := os.MkdirTemp("", "bench-tokens-")
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for registry, token := range map[string]string{agent.RegistryAgent: cluster.AgentToken, agent.RegistryCatalog: cluster.CatalogToken} {
		files[registry] = filepath.Join(folder, registry)
		if err := os.WriteFile(files[registry], []byte(lab.ConsulToken(token)), 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}
