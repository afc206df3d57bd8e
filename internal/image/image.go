// Package image writes OCI images without a container engine: one layer of
// files, in a tar with the OCI image layout, which "ctr images import", skopeo
// and "docker load" take in. The same input gives the same bytes.
package image

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// Spec is an image.
type Spec struct {
	Name       string            // reference with a tag, such as fairway.dev/fairway:dev
	Files      map[string]string // absolute path in the image -> file on this machine
	Entrypoint []string          // nil if whoever runs the image names the command
	User       string            // numeric, so that Kubernetes can tell it is not root
	Env        []string          // NAME=VALUE
	Labels     map[string]string
	Arch       string // "" for this machine's
}

// epoch is the time of everything in an image: a build leaves no trace of when
// it ran.
func epoch() time.Time { return time.Unix(0, 0).UTC() }

// Write writes the image to w.
func Write(w io.Writer, spec Spec) error {
	if err := spec.validate(); err != nil {
		return fmt.Errorf("image %s: %w", spec.Name, err)
	}
	layer, err := spec.layer()
	if err != nil {
		return fmt.Errorf("image %s: %w", spec.Name, err)
	}
	if err := writeLayout(w, spec, layer); err != nil {
		return fmt.Errorf("write image %s: %w", spec.Name, err)
	}
	return nil
}

// WriteFile writes the image to a file, which is either complete or as it was.
func WriteFile(path string, spec Spec) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write image %s: %w", spec.Name, err)
	}
	defer os.Remove(file.Name()) // does nothing after the rename
	defer file.Close()
	if err := Write(file, spec); err != nil {
		return err
	}
	if err := file.Chmod(0o644); err != nil {
		return fmt.Errorf("write image %s: %w", spec.Name, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write image %s: %w", spec.Name, err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("write image %s: %w", spec.Name, err)
	}
	return nil
}

func (s Spec) validate() error {
	// A colon before the last slash belongs to a registry's port.
	if !strings.Contains(s.Name[strings.LastIndex(s.Name, "/")+1:], ":") {
		return fmt.Errorf("the name has no tag")
	}
	for name := range s.Files {
		if !path.IsAbs(name) || path.Clean(name) != name || name == "/" {
			return fmt.Errorf("%q is not an absolute path of a file", name)
		}
	}
	return nil
}
