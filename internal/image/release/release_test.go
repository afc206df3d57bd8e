package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/image"
	"fairway.dev/fairway/internal/image/gobuild"
)

// TestBuild builds a small product with two commands.
func TestBuild(t *testing.T) {
	root, bin := t.TempDir(), filepath.Join(t.TempDir(), "bin")
	source := "package main\n\nvar version string\n\nfunc main() { print(version) }\n"
	for name, content := range map[string]string{
		"go.mod": "module example.com/product\n\ngo 1.26\n", "cmd/one/main.go": source, "cmd/two/main.go": source,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := Build(t.Context(), gobuild.Checkout{Root: root}, Options{Ref: "example.com/product:v9", Version: "v9", Bin: bin, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	want := image.Spec{
		Name:  "example.com/product:v9",
		Files: map[string]string{"/usr/bin/one": filepath.Join(bin, "one"), "/usr/bin/two": filepath.Join(bin, "two")},
		User:  "65532:65532",
		Env:   []string{"PATH=/usr/bin"},
		Labels: map[string]string{
			"org.opencontainers.image.title": "fairway", "org.opencontainers.image.version": "v9", "org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
	said, err := exec.CommandContext(t.Context(), spec.Files["/usr/bin/two"]).CombinedOutput()
	if err != nil || strings.TrimSpace(string(said)) != "v9" {
		t.Errorf("the binary calls itself %q (%v), want v9", said, err)
	}
}
