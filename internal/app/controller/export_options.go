package controller

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/export"
)

// ExportOptions say whether and which Services are published in Consul.
type ExportOptions struct {
	Export bool

	// These are the fields of export.Policy.
	ExportAll                                bool
	ExportNamespaces, ExportExceptNamespaces []string
	ExportSelector, ExportNamespaceSelector  string
	ExportName                               string
	ExportLoadBalancer, ExportNodePort       string
	ExportClusterIP, ExportHeadless          string
	ExportExternalName, ExportNodeAddress    string
	ExportExternalIPs                        bool
	ExportIngress, ExportGateway             bool

	// ExportResync is how often what stands in Consul is read again.
	ExportResync time.Duration
	// MaxRemovalShare, from 0 to 1; see registration.Evidence.
	MaxRemovalShare float64
}

// DefaultExport publishes nothing. Switched on, it publishes Services that ask for it.
func DefaultExport() ExportOptions {
	p := export.DefaultPolicy()
	return ExportOptions{
		ExportNamespaces: p.Allow, ExportExceptNamespaces: p.Deny,
		ExportLoadBalancer: string(p.LoadBalancer), ExportNodePort: string(p.NodePort), ExportClusterIP: string(p.ClusterIP),
		ExportHeadless: string(p.Headless), ExportExternalName: string(p.ExternalName), ExportNodeAddress: string(p.NodeAddress),
		ExportExternalIPs: p.ExternalIPs, ExportResync: time.Minute, MaxRemovalShare: 0.5,
	}
}

// AddFlags adds the flags.
func (o *ExportOptions) AddFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.Export, "export", o.Export, "publish Services in Consul")
	f.BoolVar(&o.ExportAll, "export-all", o.ExportAll, "publish Services that do not say by an annotation whether they are")
	f.StringSliceVar(&o.ExportNamespaces, "export-namespaces", o.ExportNamespaces, "namespaces of which Services may be published; * is all")
	f.StringSliceVar(&o.ExportExceptNamespaces, "export-except-namespaces", o.ExportExceptNamespaces, "namespaces of which none is, whatever its annotations say")
	f.StringVar(&o.ExportSelector, "export-selector", o.ExportSelector, "labels of Services that may be published, as kubectl -l takes them")
	f.StringVar(&o.ExportNamespaceSelector, "export-namespace-selector", o.ExportNamespaceSelector, "labels of namespaces of which Services may be published")
	f.StringVar(&o.ExportName, "export-name", o.ExportName, "name in Consul of Services that give none: {name}, {namespace}, {cluster} and text")
	f.StringVar(&o.ExportLoadBalancer, "export-load-balancer", o.ExportLoadBalancer, "what stands in Consul of Services of type LoadBalancer: load-balancer, endpoints, vip, node or off")
	f.StringVar(&o.ExportNodePort, "export-node-port", o.ExportNodePort, "of type NodePort: node, endpoints, vip or off")
	f.StringVar(&o.ExportClusterIP, "export-cluster-ip", o.ExportClusterIP, "of type ClusterIP: endpoints, vip or off")
	f.StringVar(&o.ExportHeadless, "export-headless", o.ExportHeadless, "of headless ones: endpoints or off")
	f.StringVar(&o.ExportExternalName, "export-external-name", o.ExportExternalName, "of type ExternalName: hostname or off")
	f.StringVar(&o.ExportNodeAddress, "export-node-address", o.ExportNodeAddress, "which address of a node: external, internal, or external-first")
	f.BoolVar(&o.ExportExternalIPs, "export-external-ips", o.ExportExternalIPs, "external IPs of a Service go before what its type says")
	f.BoolVar(&o.ExportIngress, "export-ingress", o.ExportIngress, "the host of an Ingress goes before the address of a Service of type ClusterIP")
	f.BoolVar(&o.ExportGateway, "export-gateway", o.ExportGateway, "so does the host of an HTTPRoute of the Gateway API")
	f.DurationVar(&o.ExportResync, "export-resync", o.ExportResync, "how often what stands in Consul of Services is read again, to repair what others changed")
	f.Float64Var(&o.MaxRemovalShare, "max-removal-share", o.MaxRemovalShare, "largest share of the instances of Services in service, of all or of one name, that may be removed within a minute on one word; more are frozen")
}

// setting is what one flag says of the policy.
type setting struct {
	flag string
	into func(*export.Policy) error
}

func (o ExportOptions) settings() []setting {
	plain := func(flag string, into func(*export.Policy)) setting {
		return setting{flag, func(p *export.Policy) error { into(p); return nil }}
	}
	address := func(flag, value string, of func(*export.Policy) *annotation.Address) setting {
		return plain(flag, func(p *export.Policy) { *of(p) = annotation.Address(value) })
	}
	selector := func(flag, value string, of func(*export.Policy) *export.Selector) setting {
		return setting{flag, func(p *export.Policy) (err error) {
			*of(p), err = export.ParseSelector(value)
			return err
		}}
	}
	return []setting{
		plain("--export-all", func(p *export.Policy) { p.Sync = o.ExportAll }),
		plain("--export-namespaces", func(p *export.Policy) { p.Allow = o.ExportNamespaces }),
		plain("--export-except-namespaces", func(p *export.Policy) { p.Deny = o.ExportExceptNamespaces }),
		selector("--export-selector", o.ExportSelector, func(p *export.Policy) *export.Selector { return &p.Selector }),
		selector("--export-namespace-selector", o.ExportNamespaceSelector, func(p *export.Policy) *export.Selector { return &p.Namespaces }),
		plain("--export-name", func(p *export.Policy) { p.Name = export.Name(o.ExportName) }),
		address("--export-load-balancer", o.ExportLoadBalancer, func(p *export.Policy) *annotation.Address { return &p.LoadBalancer }),
		address("--export-node-port", o.ExportNodePort, func(p *export.Policy) *annotation.Address { return &p.NodePort }),
		address("--export-cluster-ip", o.ExportClusterIP, func(p *export.Policy) *annotation.Address { return &p.ClusterIP }),
		address("--export-headless", o.ExportHeadless, func(p *export.Policy) *annotation.Address { return &p.Headless }),
		address("--export-external-name", o.ExportExternalName, func(p *export.Policy) *annotation.Address { return &p.ExternalName }),
		plain("--export-node-address", func(p *export.Policy) { p.NodeAddress = export.NodeAddress(o.ExportNodeAddress) }),
		plain("--export-external-ips", func(p *export.Policy) { p.ExternalIPs = o.ExportExternalIPs }),
		plain("--export-ingress", func(p *export.Policy) { p.Ingress = o.ExportIngress }),
		plain("--export-gateway", func(p *export.Policy) { p.Gateway = o.ExportGateway }),
	}
}

// policy is what the options say. They must be valid.
func (o ExportOptions) policy(cluster string) export.Policy {
	p := export.DefaultPolicy()
	p.Cluster = cluster
	for _, s := range o.settings() {
		_ = s.into(&p) // Validate has said so
	}
	return p
}

// Validate names everything that is wrong.
func (o ExportOptions) Validate() error {
	if !o.Export {
		return nil
	}
	var c process.Check
	for _, s := range o.settings() { // each alone, so that the flag is named which is wrong
		p := export.DefaultPolicy()
		p.Cluster = "any"
		if err := cmp.Or(s.into(&p), p.Validate()); err != nil {
			c.All(fmt.Errorf("%s: %w", s.flag, err))
		}
	}
	c.That(o.ExportResync >= 10*time.Second, "--export-resync %s: must be 10s or more", o.ExportResync)
	c.That(o.MaxRemovalShare >= 0 && o.MaxRemovalShare <= 1, "--max-removal-share %v: must be from 0 to 1", o.MaxRemovalShare)
	return c.Err()
}
