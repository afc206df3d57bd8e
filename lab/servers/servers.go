// Package servers builds the real servers of the lab, Kubernetes, etcd, Consul,
// containerd, Helm, CoreDNS, katalog-sync and consul-k8s' catalog sync, and Prometheus'
// promtool, from the nested modules beside it.
//
// The modules are kept apart so that none of the servers' dependencies reaches
// the product. What is built is kept in the user's cache folder under a name
// made from all that decides it, so the second time costs nothing.
package servers

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/image/gobuild"
)

// Family is a set of programs that are built together.
type Family string

// The families there are.
const (
	Kubernetes Family = "kubernetes" // kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet, kubectl
	Etcd       Family = "etcd"       // etcd
	Consul     Family = "consul"     // consul
	Containerd Family = "containerd" // containerd, containerd-shim-runc-v2, ctr
	Helm       Family = "helm"       // helm
	Prometheus Family = "prometheus" // promtool
	// CoreDNS is for labs that have a DNS of the cluster.
	CoreDNS Family = "coredns" // coredns
	// KatalogSync is what Fairway takes the place of.
	KatalogSync Family = "katalog-sync" // katalog-sync-daemon
	// ConsulK8s is what Fairway takes the place of, too. It is built when it is asked
	// for: it takes as long as half of Consul.
	ConsulK8s Family = "consul-k8s" // consul-k8s-control-plane
)

// ForLab are the families that a lab runs, the quick ones first.
func ForLab() []Family { return []Family{Etcd, Containerd, Helm, Consul, Kubernetes} }

// Options says which servers are wanted.
type Options struct {
	Kubernetes string    // "1.37" or "1.36"; "" is "1.37"
	Families   []Family  // nil for all but ConsulK8s
	Out        io.Writer // progress for people; nil for none
}

// Bin is where the programs are.
type Bin struct {
	paths map[string]string // by name of the program
}

// Path returns the absolute path of a program, such as "kubelet". It panics if
// the program belongs to none of the families that were asked for.
func (b Bin) Path(name string) string {
	path, ok := b.paths[name]
	if !ok {
		panic(fmt.Sprintf("servers: %s is not among the programs asked for: %s",
			name, strings.Join(slices.Sorted(maps.Keys(b.paths)), ", ")))
	}
	return path
}

// Ensure returns the programs of the families, and builds first what was not
// built before. Families are built one after another, also if several
// processes ask at once: each of them alone keeps a small machine busy.
func Ensure(ctx context.Context, o Options) (Bin, error) {
	if o.Kubernetes == "" {
		o.Kubernetes = "1.37"
	}
	if o.Families == nil {
		o.Families = append(ForLab(), CoreDNS, KatalogSync, Prometheus)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	recipes := make([]recipe, len(o.Families))
	for i, family := range o.Families {
		var err error
		if recipes[i], err = recipeFor(family, o.Kubernetes); err != nil {
			return Bin{}, err
		}
	}
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return Bin{}, fmt.Errorf("find the servers' modules: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Bin{}, fmt.Errorf("find the user's cache folder: %w", err)
	}
	store := store{
		dir:       filepath.Join(cache, "fairway-lab", "servers"),
		modules:   filepath.Join(checkout.Root, "lab", "servers"),
		toolchain: strings.Join([]string{checkout.GoVersion, checkout.OS, checkout.Arch}, " "),
		out:       o.Out,
	}
	bin := Bin{paths: map[string]string{}}
	for _, recipe := range recipes {
		paths, err := store.ensure(ctx, recipe)
		if err != nil {
			return Bin{}, err
		}
		maps.Copy(bin.paths, paths)
	}
	return bin, nil
}
