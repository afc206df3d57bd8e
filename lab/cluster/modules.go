package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// kernelFeature is a part of the kernel that a lab cannot do without. Many kernels have it as a module
// that nothing loads by itself.
type kernelFeature struct {
	module, purpose string
	present         func() bool
}

func kernelFeatures() []kernelFeature {
	return []kernelFeature{
		{"overlay", "containers' file systems", func() bool {
			list, err := os.ReadFile("/proc/filesystems")
			return err == nil && strings.Contains(string(list), "\toverlay\n")
		}},
		// Without it an answer from a pod to a pod of the same node goes past kube-proxy's rules.
		{"br_netfilter", "Services between pods of one node", func() bool {
			_, err := os.Stat("/proc/sys/net/bridge")
			return err == nil
		}},
	}
}

// loadModules loads what the kernel lacks.
func loadModules(ctx context.Context) error {
	for _, f := range kernelFeatures() {
		if f.present() {
			continue
		}
		if _, err := run(ctx, "modprobe", f.module); err != nil {
			return fmt.Errorf("the kernel has no %s, which %s need: %w", f.module, f.purpose, err)
		}
	}
	return nil
}
