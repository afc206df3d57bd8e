package gobuild

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFindCheckout(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(filepath.Dir(filepath.Dir(here)))
	for _, dir := range []string{".", root, filepath.Join(root, "lab", "servers", "etcd")} {
		t.Run(dir, func(t *testing.T) {
			t.Chdir(dir)
			checkout, err := FindCheckout(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if checkout.Root != root || !strings.HasPrefix(checkout.GoVersion, "go1.") || checkout.OS == "" || checkout.Arch == "" {
				t.Errorf("checkout = %+v, want root %s", checkout, root)
			}
		})
	}
}

func TestFindCheckoutOutside(t *testing.T) {
	other := t.TempDir()
	write(t, filepath.Join(other, "go.mod"), "module example.com/other\n")
	for name, dir := range map[string]string{"no module": t.TempDir(), "another module": other} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(dir)
			if _, err := FindCheckout(t.Context()); err == nil || !strings.Contains(err.Error(), "not inside a checkout") {
				t.Errorf("error = %v", err)
			}
		})
	}
	t.Run("no go command", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := FindCheckout(t.Context()); err == nil || !strings.Contains(err.Error(), "install Go") {
			t.Errorf("error = %v", err)
		}
	})
}

func TestCommands(t *testing.T) {
	checkout := Checkout{Root: t.TempDir()}
	if _, err := checkout.Commands(); err == nil {
		t.Error("no error without a cmd folder")
	}
	write(t, filepath.Join(checkout.Root, "cmd", "b", "main.go"), "package main\n")
	write(t, filepath.Join(checkout.Root, "cmd", "a", "main.go"), "package main\n")
	write(t, filepath.Join(checkout.Root, "cmd", "README.md"), "not a command\n")
	got, err := checkout.Commands()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"./cmd/a", "./cmd/b"}, got); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// TestRunIsReproducible builds the same source in two places: neither place may
// leave a trace.
func TestRunIsReproducible(t *testing.T) {
	var built [2][]byte
	for i := range built {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "go.mod"), "module example.com/hello\n\ngo 1.26\n")
		write(t, filepath.Join(dir, "main.go"), "package main\n\nvar version string\n\nfunc main() { println(version) }\n")
		build := Build{Name: "hello", Dir: dir, Packages: []string{"."}, Out: filepath.Join(t.TempDir(), "deep", "bin"), Stamp: []string{"main.version=v1"}}
		if err := build.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		if built[i], err = os.ReadFile(filepath.Join(build.Out, "hello")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(built[0], built[1]) {
		t.Error("two builds of the same source differ")
	}
}

func TestWatch(t *testing.T) {
	said := strings.Repeat("noise: early\n", 2*errorLines) +
		"go: downloading example.com/x v1.2.3\nexample.com/x/y\nfmt\n# example.com/x\nx.go:1:2: broken\n"
	show := &progress{name: "x"}
	last := watch(strings.NewReader(said), show)
	if len(last) != errorLines {
		t.Errorf("%d lines kept, want %d", len(last), errorLines)
	}
	if diff := cmp.Diff([]string{"# example.com/x", "x.go:1:2: broken"}, last[len(last)-2:]); diff != "" {
		t.Errorf("last lines (-want +got):\n%s", diff)
	}
	if got, want := show.line(show.started.Add(71*time.Second)), "x: 1m11s, 1 modules downloaded, 2 packages compiled"; got != want {
		t.Errorf("line = %q, want %q", got, want)
	}
}

func TestWatchOutlivesALongLine(t *testing.T) {
	said := strings.NewReader(strings.Repeat("x", 2<<20))
	watch(said, &progress{})
	if said.Len() != 0 {
		t.Errorf("%d bytes were not read, which blocks the compiler", said.Len())
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "lock")
	never := func() { t.Error("waited for a lock that nobody holds") }
	unlock, err := Lock(t.Context(), path, never)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan struct{})
	second := make(chan error)
	go func() {
		unlock, err := Lock(t.Context(), path, func() { close(waiting) })
		if err == nil {
			unlock()
		}
		second <- err
	}()
	<-waiting
	select {
	case err := <-second:
		t.Fatalf("two hold the lock (%v)", err)
	default:
	}
	unlock()
	if err := <-second; err != nil {
		t.Error(err)
	}
}

func TestLockEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, func() {})
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Lock(ctx, path, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v", err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
