package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
)

// layer returns the tar of the files and the folders that they are in, owned by
// root and in the order of their paths.
func (s Spec) layer() ([]byte, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	folders := map[string]bool{"/": true}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		if err := addFolders(w, folders, path.Dir(name)); err != nil {
			return nil, err
		}
		if err := addFile(w, name, s.Files[name]); err != nil {
			return nil, fmt.Errorf("add %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

// addFolders adds a folder and those above it, unless they are there.
func addFolders(w *tar.Writer, folders map[string]bool, name string) error {
	if folders[name] {
		return nil
	}
	if err := addFolders(w, folders, path.Dir(name)); err != nil {
		return err
	}
	folders[name] = true
	return w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: strings.TrimPrefix(name, "/") + "/", Mode: 0o755, ModTime: epoch(),
	})
}

// addFile adds a file of this machine. Of its mode only the executable bit
// counts, for the rest depends on the umask of who built it.
func addFile(w *tar.Writer, name, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", source)
	}
	mode := int64(0o644)
	if info.Mode()&0o111 != 0 {
		mode = 0o755
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "/"), Mode: mode, Size: info.Size(), ModTime: epoch(),
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	return err
}
