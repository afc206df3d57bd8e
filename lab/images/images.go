// Package images builds the images that a lab runs, and the static programs
// that it runs itself, from this checkout.
//
// What is built is kept in the user's cache folder. The go command decides what
// has changed, so with nothing changed Ensure takes about a second.
package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/image"
	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/internal/image/release"
	"fairway.dev/fairway/lab/servers"
)

// The names of the images.
const (
	FairwayRef = "fairway.dev/fairway:dev"
	SampleRef  = "fairway.dev/lab-sample:dev"
	PauseRef   = "fairway.dev/lab-pause:dev"
	// KatalogSyncRef is that of katalog-sync's daemon; see KatalogSync.
	KatalogSyncRef = "fairway.dev/lab-katalog-sync:dev"
	// ConsulK8sRef is that of consul-k8s' catalog sync; see ConsulK8s.
	ConsulK8sRef = "fairway.dev/lab-consul-k8s:dev"
	// CoreDNSRef is that of the cluster's DNS; see CoreDNS.
	CoreDNSRef = "fairway.dev/lab-coredns:dev"
)

// unused is how long an image that no lab asked for is kept.
const unused = 24 * time.Hour

// Set is what was built. The images are tars with the OCI image layout, whose
// paths differ if and only if the images do.
type Set struct {
	Fairway string // as a release would ship it
	Shell   string // the path of the program fairway, for people and tests
	Reaper  string // that of fairway-reaper, for a host outside Kubernetes
	Sample  string // the app that tests deploy
	// SampleProgram is the path of the same app, for a host outside Kubernetes.
	SampleProgram string
	Pause         string // holds a pod's namespaces
	// FaultProxy is the path of a static program, see lab/faultproxy.
	FaultProxy string
}

// Ensure builds what is not yet built. out receives progress for people.
func Ensure(ctx context.Context, out io.Writer) (Set, error) {
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return Set{}, fmt.Errorf("find the source of the lab's images: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Set{}, fmt.Errorf("find the user's cache folder: %w", err)
	}
	return ensure(ctx, checkout, filepath.Join(cache, "fairway-lab", "images"), out)
}

func ensure(ctx context.Context, checkout gobuild.Checkout, dir string, out io.Writer) (Set, error) {
	unlock, err := gobuild.Lock(ctx, filepath.Join(dir, "lock"), func() {
		fmt.Fprintln(out, "waiting for another process that builds images")
	})
	if err != nil {
		return Set{}, err
	}
	defer unlock()

	fairway, err := release.Build(ctx, checkout, release.Options{
		Ref: FairwayRef, Version: "dev", Bin: filepath.Join(dir, "bin", "fairway"), Log: out,
	})
	if err != nil {
		return Set{}, err
	}
	bin := filepath.Join(dir, "bin", "lab")
	build := gobuild.Build{
		Name: "the lab's programs", Dir: checkout.Root, Out: bin, Log: out,
		Packages: []string{"./lab/sample", "./lab/pause", "./lab/faultproxy"},
	}
	if err := build.Run(ctx); err != nil {
		return Set{}, err
	}
	set := Set{
		Shell:         filepath.Join(dir, "bin", "fairway", "fairway"),
		Reaper:        filepath.Join(dir, "bin", "fairway", "fairway-reaper"),
		SampleProgram: filepath.Join(bin, "sample"),
		FaultProxy:    filepath.Join(bin, "faultproxy"),
	}
	for _, each := range []struct {
		path *string
		name string
		spec image.Spec
	}{
		{&set.Fairway, "fairway", fairway},
		{&set.Sample, "sample", single(SampleRef, set.SampleProgram)},
		{&set.Pause, "pause", single(PauseRef, filepath.Join(bin, "pause"))},
	} {
		if *each.path, err = write(dir, each.name, each.spec); err != nil {
			return Set{}, err
		}
	}
	return set, prune(dir, time.Now().Add(-unused))
}

// KatalogSync writes the image of katalog-sync's own daemon, which is built from
// its released source, and returns the path of its tar.
func KatalogSync(ctx context.Context, out io.Writer) (string, error) {
	return ofServer(ctx, servers.KatalogSync, "katalog-sync-daemon", KatalogSyncRef, out)
}

// ConsulK8s writes the image of consul-k8s' catalog sync, which is built from its own
// source, and returns the path of its tar.
func ConsulK8s(ctx context.Context, out io.Writer) (string, error) {
	return ofServer(ctx, servers.ConsulK8s, "consul-k8s-control-plane", ConsulK8sRef, out)
}

// CoreDNS writes the image of the DNS server that a cluster has, and returns the
// path of its tar.
func CoreDNS(ctx context.Context, out io.Writer) (string, error) {
	return ofServer(ctx, servers.CoreDNS, "coredns", CoreDNSRef, out)
}

// ofServer writes the image of one of the real servers.
func ofServer(ctx context.Context, family servers.Family, program, ref string, out io.Writer) (string, error) {
	bin, err := servers.Ensure(ctx, servers.Options{Families: []servers.Family{family}, Out: out})
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder: %w", err)
	}
	dir := filepath.Join(cache, "fairway-lab", "images")
	unlock, err := gobuild.Lock(ctx, filepath.Join(dir, "lock"), func() {
		fmt.Fprintln(out, "waiting for another process that builds images")
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	return write(dir, string(family), single(ref, bin.Path(program)))
}

// single returns an image that holds and runs one program.
func single(ref, program string) image.Spec {
	inside := "/" + filepath.Base(program)
	return image.Spec{
		Name:       ref,
		Files:      map[string]string{inside: program},
		Entrypoint: []string{inside},
		User:       "65532:65532",
	}
}

// write writes an image to a file named after its content, unless that exists,
// and marks the file as used now.
func write(dir, name string, spec image.Spec) (string, error) {
	key, err := key(spec)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", spec.Name, err)
	}
	path := filepath.Join(dir, name+"-"+key+".tar")
	now := time.Now()
	err = os.Chtimes(path, now, now)
	if errors.Is(err, fs.ErrNotExist) {
		return path, image.WriteFile(path, spec)
	}
	if err != nil {
		return "", fmt.Errorf("image %s: %w", spec.Name, err)
	}
	return path, nil
}

// key returns a name made from all that the image holds.
func key(spec image.Spec) (string, error) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q %q %q %q %q\n", spec.Name, spec.Entrypoint, spec.User, spec.Env, spec.Labels, spec.Arch)
	for _, name := range slices.Sorted(maps.Keys(spec.Files)) {
		file, err := os.Open(spec.Files[name])
		if err != nil {
			return "", err
		}
		content := sha256.New()
		_, err = io.Copy(content, file)
		if err := errors.Join(err, file.Close()); err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%q %x\n", name, content.Sum(nil))
	}
	return fmt.Sprintf("%x", hash.Sum(nil)[:6]), nil
}

// prune removes images that were last used before a time, so that a day of
// changes to the source does not fill the disk.
func prune(dir string, before time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for old images: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".tar") {
			continue
		}
		if info, err := entry.Info(); err != nil || !info.ModTime().Before(before) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return fmt.Errorf("remove an old image: %w", err)
		}
	}
	return nil
}
