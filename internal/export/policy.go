package export

import (
	"errors"
	"fmt"
	"slices"

	"fairway.dev/fairway/internal/annotation"
)

// Policy is what the operator wants of all Services that say nothing else.
type Policy struct {
	// Cluster is the cluster id.
	Cluster string
	// Sync is whether Services are published that do not say.
	Sync bool
	// Allow and Deny are namespaces; what is denied is not published, whatever its
	// annotations say, and neither is what is not allowed. "*" allows all.
	Allow, Deny []string
	// Selector and Namespaces select by the labels of a Service and of its
	// namespace. What is not selected is not published.
	Selector, Namespaces Selector
	Name                 Name

	// What stands in the registry, by the type of Service. A Service of which
	// nothing stands there is off.
	LoadBalancer annotation.Address // LoadBalancer, Endpoints, VIP, Node
	NodePort     annotation.Address // Node, Endpoints, VIP
	ClusterIP    annotation.Address // Endpoints, VIP
	Headless     annotation.Address // Endpoints
	ExternalName annotation.Address // Hostname
	// NodeAddress is which address of a node is taken.
	NodeAddress NodeAddress
	// ExternalIPs go before what the type says, for Services that have some.
	ExternalIPs bool
	// Ingress and Gateway let the host under which an Ingress, or a route of the
	// Gateway API, leads to a Service of type ClusterIP go before it too.
	Ingress, Gateway bool
}

// Off is the Address of Services of which nothing is published.
const Off annotation.Address = "off"

// NodeAddress says which address of a node is taken.
type NodeAddress string

// The values of NodeAddress.
const (
	External      NodeAddress = "external"
	Internal      NodeAddress = "internal"
	ExternalFirst NodeAddress = "external-first" // an internal one if there is no external one
)

// DefaultPolicy publishes Services that ask for it, in all namespaces but those of
// the system.
func DefaultPolicy() Policy {
	return Policy{
		Allow: []string{"*"}, Deny: []string{"kube-system", "kube-public"},
		LoadBalancer: annotation.LoadBalancer, NodePort: annotation.Node, ClusterIP: annotation.Endpoints,
		Headless: annotation.Endpoints, ExternalName: annotation.Hostname,
		NodeAddress: ExternalFirst, ExternalIPs: true,
	}
}

// Validate says all that is wrong with a policy.
func (p Policy) Validate() error {
	var errs []error
	if p.Cluster == "" {
		errs = append(errs, errors.New("the cluster id is empty: nobody would own the entries"))
	}
	if len(p.Allow) == 0 {
		errs = append(errs, errors.New("no namespace is allowed: name some, or give * for all"))
	}
	if slices.Contains(p.Deny, "*") {
		errs = append(errs, errors.New("all namespaces are denied: nothing would ever be published"))
	}
	errs = append(errs, p.Name.Validate())
	for _, t := range p.types() {
		if !slices.Contains(append(t.takes, Off), t.value) {
			errs = append(errs, fmt.Errorf("services of type %s: %q is not one of %v", t.name, t.value, append(t.takes, Off)))
		}
	}
	if !slices.Contains([]NodeAddress{External, Internal, ExternalFirst}, p.NodeAddress) {
		errs = append(errs, fmt.Errorf("address of nodes: %q is not one of %v", p.NodeAddress, []NodeAddress{External, Internal, ExternalFirst}))
	}
	return errors.Join(errs...)
}

// addressOf is what a type of Service can have for its address.
type addressOf struct {
	name  string
	value annotation.Address
	takes []annotation.Address
}

func (p Policy) types() []addressOf {
	const (
		endpoints, vip, node   = annotation.Endpoints, annotation.VIP, annotation.Node
		loadBalancer, hostname = annotation.LoadBalancer, annotation.Hostname
	)
	return []addressOf{
		{string(TypeLoadBalancer), p.LoadBalancer, []annotation.Address{loadBalancer, endpoints, vip, node}},
		{string(TypeNodePort), p.NodePort, []annotation.Address{node, endpoints, vip}},
		{string(TypeClusterIP), p.ClusterIP, []annotation.Address{endpoints, vip}},
		{headless, p.Headless, []annotation.Address{endpoints}},
		{string(TypeExternalName), p.ExternalName, []annotation.Address{hostname}},
	}
}

// headless is the type of Services without a cluster IP.
const headless = "headless"

// typeOf is the type of a Service as the policy has it.
func (p Policy) typeOf(svc Service) (addressOf, bool) {
	name := string(svc.Type)
	if svc.Headless && svc.Type == TypeClusterIP {
		name = headless
	}
	for _, t := range p.types() {
		if t.name == name {
			return t, true
		}
	}
	return addressOf{}, false
}
