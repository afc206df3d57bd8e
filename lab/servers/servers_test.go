package servers

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newStore returns a store whose only module is a small one of its own, so
// that a build takes a second and downloads nothing.
func newStore(t *testing.T) (store, recipe, *lockedBuffer) {
	t.Helper()
	modules, out := t.TempDir(), &lockedBuffer{}
	write(t, filepath.Join(modules, "toy", "go.mod"), "module example.com/toy\n\ngo 1.26\n\ntool example.com/toy/v3\n\ntool example.com/toy/cmd/helper\n")
	write(t, filepath.Join(modules, "toy", "go.sum"), "")
	write(t, filepath.Join(modules, "toy", "v3", "main.go"), "package main\n\nfunc main() {}\n")
	write(t, filepath.Join(modules, "toy", "cmd", "helper", "main.go"), "package main\n\nfunc main() {}\n")
	s := store{dir: filepath.Join(t.TempDir(), "store"), modules: modules, toolchain: "go", out: out}
	return s, recipe{module: "toy", rename: map[string]string{"toy": "server"}}, out
}

func TestBuildsOnceAndKeeps(t *testing.T) {
	s, r, _ := newStore(t)
	first, err := s.ensure(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name, path := range first {
		names = append(names, name)
		if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 || !filepath.IsAbs(path) {
			t.Errorf("%s is no program with an absolute path: %v", path, err)
		}
	}
	if len(names) != 2 || first["server"] == "" || first["helper"] == "" {
		t.Fatalf("programs = %v, want server (renamed) and helper", names)
	}

	// Without its source nothing can be built: the answer comes from the store.
	if err := os.RemoveAll(filepath.Join(s.modules, "toy", "v3")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	second, err := s.ensure(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 50*time.Millisecond {
		t.Errorf("the second time took %s", d)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second answer differs (-first +second):\n%s", diff)
	}
}

func TestInputsDecideTheFolder(t *testing.T) {
	s, r, _ := newStore(t)
	key := func() string {
		t.Helper()
		_, key, err := s.plan(r)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	seen := map[string]string{key(): "the start"}
	for _, change := range []struct {
		name string
		do   func()
	}{
		{"toolchain", func() { s.toolchain = "another" }},
		{"tags", func() { r.tags = "netgo" }},
		{"names", func() { r.rename = nil }},
		{"go.sum", func() { write(t, filepath.Join(s.modules, "toy", "go.sum"), "\n") }},
		{"source", func() { write(t, filepath.Join(s.modules, "toy", "main.go"), "package main\n") }},
		{"go.mod", func() { write(t, filepath.Join(s.modules, "toy", "go.mod"), "module example.com/toy\n") }},
	} {
		change.do()
		if before, ok := seen[key()]; ok {
			t.Errorf("after a change of %s the folder is still that of %s", change.name, before)
		}
		seen[key()] = change.name
	}
}

func TestTwoAtOnceBuildOnce(t *testing.T) {
	s, r, out := newStore(t)
	r.usual = time.Second // so that each build is announced
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if _, err := s.ensure(t.Context(), r); err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
	if n := strings.Count(out.String(), "building toy"); n != 1 {
		t.Errorf("built %d times:\n%s", n, out)
	}
}

func TestFailureShowsTheCompilerAndLeavesNothing(t *testing.T) {
	s, r, _ := newStore(t)
	write(t, filepath.Join(s.modules, "toy", "v3", "main.go"), "package main\n\nfunc main() { undefined() }\n")
	_, err := s.ensure(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "main.go:3:15: undefined: undefined") {
		t.Errorf("error = %v, want the compiler's line", err)
	}
	expectEmpty(t, s)
}

func TestEndedContextLeavesNothing(t *testing.T) {
	s, r, _ := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.ensure(ctx, r); err == nil {
		t.Error("no error after the context ended")
	}
	expectEmpty(t, s)
}

func TestLeftoverOfAKilledBuild(t *testing.T) {
	s, r, _ := newStore(t)
	_, key, err := s.plan(r)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.dir, "toy-"+key+".partial", "junk"), "half a server")
	paths, err := s.ensure(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := paths["junk"]; ok {
		t.Errorf("the leftover became a program: %v", paths)
	}
}

// TestRecipes checks the real modules: each family's folder is there, and the
// version that Kubernetes is stamped with is the one that is built.
func TestRecipes(t *testing.T) {
	s := store{modules: "."}
	for _, test := range []struct {
		family     Family
		kubernetes string
		stamp      string
	}{
		{Kubernetes, "1.37", "k8s.io/component-base/version.gitVersion=v1.37."},
		{Kubernetes, "1.36", "k8s.io/component-base/version.gitVersion=v1.36."},
		{Etcd, "", ""}, {Consul, "", ""}, {Containerd, "", ""}, {Helm, "", ""}, {Prometheus, "", ""}, {CoreDNS, "", ""}, {KatalogSync, "", ""},
	} {
		r, err := recipeFor(test.family, test.kubernetes)
		if err != nil {
			t.Fatal(err)
		}
		build, _, err := s.plan(r)
		if err != nil {
			t.Errorf("%s %s: %v", test.family, test.kubernetes, err)
		}
		if got := strings.Join(build.Stamp, " "); !strings.HasPrefix(got, test.stamp) || (test.stamp == "") != (got == "") {
			t.Errorf("%s %s is stamped %q, want %q", test.family, test.kubernetes, got, test.stamp)
		}
	}
	if _, err := recipeFor(Kubernetes, "1.12"); err == nil {
		t.Error("no error for a Kubernetes that there is no module for")
	}
	if _, err := recipeFor("redis", ""); err == nil {
		t.Error("no error for an unknown family")
	}
}

// TestEnsureEtcd builds a real server, the smallest, and runs it.
func TestEnsureEtcd(t *testing.T) {
	bin, err := Ensure(t.Context(), Options{Families: []Family{Etcd}, Out: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	out, err := execute(t, bin.Path("etcd"), "--version")
	if err != nil || !strings.Contains(out, "etcd Version: 3.") {
		t.Errorf("etcd --version: %v\n%s", err, out)
	}
	defer func() {
		if recover() == nil {
			t.Error("Path did not panic for a program that was not asked for")
		}
	}()
	bin.Path("kubelet")
}
