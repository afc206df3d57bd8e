package images

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/image/gobuild"
)

// TestEnsure builds the real images of this checkout.
func TestEnsure(t *testing.T) {
	checkout, err := gobuild.FindCheckout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	first, err := ensure(t.Context(), checkout, dir, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]time.Time{}
	for _, path := range []string{first.Fairway, first.Sample, first.Pause} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < 100_000 {
			t.Errorf("%s has only %d bytes", path, info.Size())
		}
		// A time that a second write would not give the file.
		before[path] = info.ModTime().Add(-time.Hour)
		if err := os.WriteFile(path, []byte("not written again"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, before[path], before[path]); err != nil {
			t.Fatal(err)
		}
	}

	second, err := ensure(t.Context(), checkout, dir, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("with nothing changed the images differ (-first +second):\n%s", diff)
	}
	for path, old := range before {
		content, err := os.ReadFile(path)
		if err != nil || string(content) != "not written again" {
			t.Errorf("%s was written again (%v)", path, err)
		}
		if info, err := os.Stat(path); err != nil || !info.ModTime().After(old) {
			t.Errorf("%s is not marked as used (%v)", path, err)
		}
	}
}

func TestContentDecidesTheName(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	written := func(content, ref string) string {
		t.Helper()
		if err := os.WriteFile(program, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		path, err := write(dir, "x", single(ref, program))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := written("one", "x:dev")
	if two := written("two", "x:dev"); two == one {
		t.Error("another program, the same file")
	}
	if named := written("one", "y:dev"); named == one {
		t.Error("another name, the same file")
	}
	if again := written("one", "x:dev"); again != one {
		t.Errorf("the same image is now %s, was %s", again, one)
	}
}

func TestPrune(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	for name, age := range map[string]time.Duration{"old.tar": 2 * unused, "new.tar": time.Hour, "lock": 2 * unused} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if err := prune(dir, now.Add(-unused)); err != nil {
		t.Fatal(err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	if diff := cmp.Diff([]string{"lock", "new.tar"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}
