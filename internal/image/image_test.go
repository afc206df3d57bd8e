package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func newSpec(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	program, text := filepath.Join(dir, "program"), filepath.Join(dir, "text")
	if err := os.WriteFile(program, []byte("a program"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("a text"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Name:       "fairway.dev/test:dev",
		Files:      map[string]string{"/usr/bin/program": program, "/usr/share/doc/text": text, "/init": program},
		Entrypoint: []string{"/usr/bin/program", "--flag"},
		User:       "65532:65532",
		Env:        []string{"PATH=/usr/bin"},
		Labels:     map[string]string{"a": "1", "b": "2"},
	}
}

func TestReproducible(t *testing.T) {
	var first, second bytes.Buffer
	spec := newSpec(t)
	if err := Write(&first, spec); err != nil {
		t.Fatal(err)
	}
	// Other files with the same content, written at another time under another umask.
	again := newSpec(t)
	for _, source := range again.Files {
		if err := os.Chtimes(source, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(again.Files["/usr/share/doc/text"], 0o664); err != nil {
		t.Fatal(err)
	}
	if err := Write(&second, again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same image was written as different bytes")
	}
}

func TestReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.tar")
	spec := newSpec(t)
	if err := WriteFile(path, spec); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode of the file: %v (%v)", info.Mode(), err)
	}
	manifest, image := open(t, path)
	if err := validate.Image(image); err != nil {
		t.Errorf("the image contradicts itself: %v", err)
	}
	if got := manifest.Annotations["io.containerd.image.name"]; got != spec.Name {
		t.Errorf("name = %q, want %q", got, spec.Name)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: spec.Entrypoint, User: spec.User, Env: spec.Env, Labels: spec.Labels}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if config.OS != "linux" || config.Architecture != runtime.GOARCH || config.Created.Unix() != 0 {
		t.Errorf("made for %s/%s at %s", config.OS, config.Architecture, config.Created)
	}
	wantFiles := []string{
		"init -rwxr-xr-x 0:0 a program",
		"usr/ drwxr-xr-x 0:0 ",
		"usr/bin/ drwxr-xr-x 0:0 ",
		"usr/bin/program -rwxr-xr-x 0:0 a program",
		"usr/share/ drwxr-xr-x 0:0 ",
		"usr/share/doc/ drwxr-xr-x 0:0 ",
		"usr/share/doc/text -rw-r--r-- 0:0 a text",
	}
	if diff := cmp.Diff(wantFiles, files(t, image)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestBadSpecs(t *testing.T) {
	for want, spoil := range map[string]func(*Spec){
		"no tag":              func(s *Spec) { s.Name = "localhost:5000/fairway" },
		"absolute path":       func(s *Spec) { s.Files["usr/bin/x"] = s.Files["/init"] },
		"not a regular file":  func(s *Spec) { s.Files["/tmp"] = t.TempDir() },
		"no such file or dir": func(s *Spec) { s.Files["/x"] = filepath.Join(t.TempDir(), "none") },
	} {
		spec := newSpec(t)
		spoil(&spec)
		path := filepath.Join(t.TempDir(), "image.tar")
		if err := WriteFile(path, spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %q", err, want)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
			t.Errorf("a failed write left %v (%v)", left, err)
		}
	}
}

// open reads an image back with the code that registries' clients use.
func open(t *testing.T, path string) (v1.Descriptor, v1.Image) {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for r := tar.NewReader(file); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, header.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("index: %+v (%v)", manifest, err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return manifest.Manifests[0], image
}

// files lists an image's files with mode, owner and content.
func files(t *testing.T, image v1.Image) (found []string) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers (%v)", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 0 {
			t.Errorf("%s is of %s", header.Name, header.ModTime)
		}
		found = append(found, strings.Join([]string{
			header.Name, header.FileInfo().Mode().String(),
			owner(header), string(text),
		}, " "))
	}
}

func owner(h *tar.Header) string {
	if h.Uid == 0 && h.Gid == 0 {
		return "0:0"
	}
	return "not root"
}
