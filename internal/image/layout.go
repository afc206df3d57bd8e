package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layoutFiles is the files of an OCI image layout by name.
type layoutFiles map[string][]byte

// writeLayout writes an image of one layer as a tar with the OCI image layout.
func writeLayout(w io.Writer, spec Spec, layer []byte) error {
	files := layoutFiles{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	diffID, _, err := v1.SHA256(bytes.NewReader(layer))
	if err != nil {
		return err
	}
	packed, err := compress(layer)
	if err != nil {
		return err
	}
	config, err := json.Marshal(spec.config(diffID))
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        files.add(types.OCIConfigJSON, config),
		Layers:        []v1.Descriptor{files.add(types.OCILayer, packed)},
		Annotations:   spec.Labels,
	})
	if err != nil {
		return err
	}
	files["index.json"], err = json.Marshal(v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests:     []v1.Descriptor{spec.name(files.add(types.OCIManifestSchema1, manifest))},
	})
	if err != nil {
		return err
	}
	return files.write(w)
}

// config returns what a container made from the image starts with.
func (s Spec) config(diffID v1.Hash) v1.ConfigFile {
	return v1.ConfigFile{
		Created:      v1.Time{Time: epoch()},
		OS:           "linux",
		Architecture: s.arch(),
		Config:       v1.Config{Entrypoint: s.Entrypoint, User: s.User, Env: s.Env, Labels: s.Labels},
		RootFS:       v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{diffID}},
		History:      []v1.History{{Created: v1.Time{Time: epoch()}, CreatedBy: "fairway.dev/fairway/internal/image"}},
	}
}

// name adds the image's name to the descriptor of its manifest. containerd
// takes it from an annotation of its own, others take the tag from the
// standard one.
func (s Spec) name(manifest v1.Descriptor) v1.Descriptor {
	manifest.Platform = &v1.Platform{OS: "linux", Architecture: s.arch()}
	manifest.Annotations = map[string]string{
		"io.containerd.image.name":          s.Name,
		"org.opencontainers.image.ref.name": s.Name[strings.LastIndex(s.Name, ":")+1:],
	}
	return manifest
}

func (s Spec) arch() string {
	if s.Arch == "" {
		return runtime.GOARCH
	}
	return s.Arch
}

// add adds content under the name made from its digest and describes it.
func (l layoutFiles) add(mediaType types.MediaType, content []byte) v1.Descriptor {
	hash, size, err := v1.SHA256(bytes.NewReader(content))
	if err != nil {
		panic(fmt.Sprintf("image: read from memory: %v", err))
	}
	l["blobs/"+hash.Algorithm+"/"+hash.Hex] = content
	return v1.Descriptor{MediaType: mediaType, Size: size, Digest: hash}
}

func (l layoutFiles) write(w io.Writer) error {
	out := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(l)) {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(l[name])), ModTime: epoch()}
		if err := out.WriteHeader(header); err != nil {
			return err
		}
		if _, err := out.Write(l[name]); err != nil {
			return err
		}
	}
	return out.Close()
}

// compress packs a layer. Binaries hardly get smaller by trying harder.
func compress(content []byte) ([]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
