package arch_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestAgentLinksNoClientset: client-go's clientset knows every kind of
// Kubernetes. It would double the program that runs on every node, and most of
// a program's pages are in memory.
func TestAgentLinksNoClientset(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", module+"/cmd/fairway-agent").Output()
	if err != nil {
		t.Fatalf("list what the agent links: %v", err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("the agent links only %q", deps)
	}
	for _, dep := range deps {
		if strings.HasPrefix(dep, "k8s.io/client-go/kubernetes") {
			t.Errorf("the agent links %s; kube.Client is what it needs", dep)
		}
	}
}
