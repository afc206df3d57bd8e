package servers

import (
	"fmt"
	"regexp"
	"slices"
	"time"
)

// recipe is how a family is built.
type recipe struct {
	module string // folder of the nested module, and the family's name in the cache
	tags   string
	// stamp names a module and the linker variables that receive its version.
	stampModule string
	stampVars   []string
	rename      map[string]string // programs that are not to keep the name Go gives them
	usual       time.Duration     // from nothing on two cores
}

// kubernetesVersions are those with a nested module.
func kubernetesVersions() []string { return []string{"1.36", "1.37"} }

func recipeFor(family Family, kubernetes string) (recipe, error) {
	switch family {
	case Kubernetes:
		if !slices.Contains(kubernetesVersions(), kubernetes) {
			return recipe{}, fmt.Errorf("no Kubernetes %q: there is %v", kubernetes, kubernetesVersions())
		}
		return recipe{
			module:      "kubernetes-" + kubernetes,
			stampModule: "k8s.io/kubernetes",
			// Without a version of its own "kubectl version" fails.
			stampVars: []string{"k8s.io/component-base/version.gitVersion", "k8s.io/client-go/pkg/version.gitVersion"},
			usual:     7 * time.Minute,
		}, nil
	case Etcd:
		// The program is the root package of go.etcd.io/etcd/server/v3, so Go names it server.
		return recipe{module: "etcd", rename: map[string]string{"server": "etcd"}, usual: 25 * time.Second}, nil
	case Consul:
		return recipe{module: "consul", usual: 4 * time.Minute}, nil
	case Containerd:
		return recipe{module: "containerd", tags: "no_btrfs,no_zfs,no_devmapper", usual: time.Minute}, nil
	case KatalogSync:
		return recipe{module: "katalog-sync", usual: 40 * time.Second}, nil
	case ConsulK8s:
		// The program is the module's own, with the one subcommand that is of interest.
		return recipe{module: "consul-k8s", rename: map[string]string{"consul-k8s": "consul-k8s-control-plane"}, usual: 2 * time.Minute}, nil
	case Helm:
		return recipe{module: "helm", usual: 2 * time.Minute}, nil
	case CoreDNS:
		// The program is the module's own, with few of CoreDNS' plugins.
		return recipe{module: "coredns", usual: time.Minute}, nil
	case Prometheus:
		// Rules are checked without what finds targets in two dozen clouds.
		return recipe{module: "prometheus", tags: "remove_all_sd", usual: 4 * time.Minute}, nil
	}
	return recipe{}, fmt.Errorf("no family of servers is called %q", family)
}

// stamps returns the linker settings that a family wants, with the version
// that its go.mod requires.
func (r recipe) stamps(goMod []byte) ([]string, error) {
	if r.stampModule == "" {
		return nil, nil
	}
	requirement := regexp.MustCompile(`(?m)^(?:require)?\s+` + regexp.QuoteMeta(r.stampModule) + ` (v\S+)`)
	match := requirement.FindSubmatch(goMod)
	if match == nil {
		return nil, fmt.Errorf("the go.mod of %s does not require %s", r.module, r.stampModule)
	}
	var stamps []string
	for _, variable := range r.stampVars {
		stamps = append(stamps, variable+"="+string(match[1]))
	}
	return stamps, nil
}
