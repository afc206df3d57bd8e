package cluster

import (
	"context"
	"errors"
	"os"
	"runtime"

	"fairway.dev/fairway/lab/debian"
	"fairway.dev/fairway/lab/images"
	"fairway.dev/fairway/lab/servers"
)

// toolPath is where the programs of Debian packages are: ip, nft, runc, nsenter and mount.
const toolPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// serverPrograms are the programs that package servers builds and a lab uses.
func serverPrograms() []string {
	return []string{
		"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
		"consul", "containerd", "containerd-shim-runc-v2", "ctr", "helm",
	}
}

// Preflight says what keeps a lab from running here, and what to do about it.
func Preflight() error {
	if runtime.GOOS != "linux" {
		return errors.New("the lab needs Linux, for its hosts are network namespaces: use a Linux machine or a virtual one")
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root, for it makes namespaces and mounts: run the same command with sudo")
	}
	return nil
}

// prepare gets the programs and images of a lab: instant if they are there, minutes the first time.
func prepare(ctx context.Context, t Topology, out *progress) (record, error) {
	if err := debian.Ensure(ctx, out, debian.ForLab()...); err != nil {
		return record{}, err
	}
	if err := loadModules(ctx); err != nil {
		return record{}, err
	}
	built, err := servers.Ensure(ctx, servers.Options{Kubernetes: t.Kubernetes, Families: servers.ForLab(), Out: out})
	if err != nil {
		return record{}, err
	}
	set, err := images.Ensure(ctx, out)
	if err != nil {
		return record{}, err
	}
	r := record{Programs: map[string]string{faultProxy: set.FaultProxy}, Images: []string{set.Pause}}
	if t.DNS {
		image, err := images.CoreDNS(ctx, out)
		if err != nil {
			return record{}, err
		}
		r.Images = append(r.Images, image)
	}
	for _, name := range serverPrograms() {
		r.Programs[name] = built.Path(name)
	}
	return r, nil
}
