// Package release builds the image that Fairway ships. Releases and the lab use
// it alike, so that what is tested is what is shipped.
package release

import (
	"context"
	"io"
	"path"
	"path/filepath"

	"fairway.dev/fairway/internal/image"
	"fairway.dev/fairway/internal/image/gobuild"
)

// Options says which image is built.
type Options struct {
	Ref     string    // the image's name with a tag
	Version string    // what the binaries call themselves
	Arch    string    // "" for this machine's
	Bin     string    // folder for the binaries; kept, it makes the next build quick
	Log     io.Writer // progress for people; nil for none
}

// Build builds all of the product's commands and returns the image that holds
// them. The image names no command of its own: it serves several, and a pod
// says which one it runs.
func Build(ctx context.Context, checkout gobuild.Checkout, o Options) (image.Spec, error) {
	commands, err := checkout.Commands()
	if err != nil {
		return image.Spec{}, err
	}
	build := gobuild.Build{
		Name:     "fairway " + o.Version,
		Dir:      checkout.Root,
		Packages: commands,
		Out:      o.Bin,
		Stamp:    []string{"main.version=" + o.Version},
		Arch:     o.Arch,
		Log:      o.Log,
	}
	if err := build.Run(ctx); err != nil {
		return image.Spec{}, err
	}
	spec := image.Spec{
		Name:  o.Ref,
		Files: map[string]string{},
		User:  "65532:65532", // nothing in it needs root
		Env:   []string{"PATH=/usr/bin"},
		Arch:  o.Arch,
		Labels: map[string]string{
			"org.opencontainers.image.title":    "fairway",
			"org.opencontainers.image.version":  o.Version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		},
	}
	for _, command := range commands {
		name := path.Base(command)
		spec.Files["/usr/bin/"+name] = filepath.Join(o.Bin, name)
	}
	return spec, nil
}
