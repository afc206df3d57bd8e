// Command image writes the image that a release ships, as a tar in the OCI
// image layout, which containerd, skopeo and crane can read. It needs no Docker.
//
//	go run ./hack/image -o fairway.tar --version v1.2.3
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"fairway.dev/fairway/internal/image"
	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/internal/image/release"
)

func main() {
	output := flag.String("output", "dist/fairway.tar", "`FILE` to write")
	flag.StringVar(output, "o", *output, "short for --output")
	version := flag.String("version", "dev", "what the programs call themselves")
	ref := flag.String("ref", "", "`NAME` of the image, with a tag (default: fairway.dev/fairway and the version)")
	arch := flag.String("arch", "", "`GOARCH` of the programs (default: this machine's)")
	flag.Parse()
	if *ref == "" {
		*ref = "fairway.dev/fairway:" + *version
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := write(ctx, *output, release.Options{Ref: *ref, Version: *version, Arch: *arch}); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// write builds the programs beside the image and then the image.
func write(ctx context.Context, output string, o release.Options) error {
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return fmt.Errorf("find the source: %w", err)
	}
	// The build runs in another folder.
	dir, err := filepath.Abs(filepath.Dir(output))
	if err != nil {
		return fmt.Errorf("find the folder of %s: %w", output, err)
	}
	o.Bin = filepath.Join(dir, "bin", o.Arch)
	o.Log = os.Stderr
	spec, err := release.Build(ctx, checkout, o)
	if err != nil {
		return err
	}
	if err := image.WriteFile(output, spec); err != nil {
		return err
	}
	fmt.Println(output)
	return nil
}
