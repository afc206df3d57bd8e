package arch_test

import (
	"os/exec"
	"strings"
	"testing"
)

// What runs in every pod is small: it links no client of Kubernetes or Consul.
func TestTheGateIsSmall(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/fairway-gate")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list what fairway-gate links: %v", err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, heavy := range []string{"k8s.io/", "github.com/hashicorp/", "github.com/prometheus/"} {
			if strings.HasPrefix(dep, heavy) {
				t.Errorf("fairway-gate links %s", dep)
			}
		}
	}
}
