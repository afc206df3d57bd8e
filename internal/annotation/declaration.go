package annotation

import (
	"cmp"
	"slices"

	"fairway.dev/fairway/internal/service"
)

// Consul is the prefix of the annotations that Consul's own catalog sync reads on
// Services.
const Consul = "consul.hashicorp.com/"

// The annotations that only Services have, without their prefix.
const (
	fieldSync     = "service-sync"
	fieldName     = "service-name"
	fieldAddress  = "service-address"
	fieldDraining = "service-draining"

	fieldWeight  = "service-weight" // Consul's
	fieldMetaKey = "service-meta-"  // Consul's, with a key after it
)

// Address is what stands in the registry as the address of a Service's instances.
type Address string

// The values of Address.
const (
	Endpoints    Address = "endpoints"     // each endpoint, mostly a pod, with its own
	VIP          Address = "vip"           // the cluster IP
	Node         Address = "node"          // each node that has endpoints, with the node port
	LoadBalancer Address = "load-balancer" // each address or hostname of the load balancer
	Hostname     Address = "hostname"      // each host under which an Ingress or HTTPRoute leads to the Service, or its external name
)

// Declaration is what the annotations of a Kubernetes Service ask for. The zero
// value of a field stands for what was not asked for, if nothing else is said.
type Declaration struct {
	// Sync is whether the Service is to be published; nil if it does not say.
	Sync *bool
	// Name is the service name. It is used as it is: no prefix, no suffix.
	Name string
	// Port is the main port, and Literal tells that it is a number that was given
	// for Consul, and no port of the Service. Further are the others, which all have
	// names.
	Port    service.Port
	Literal bool
	Further []service.Port

	Tags    []string
	Meta    map[string]string
	Weights service.Weights // Consul's own if none were asked for
	Address Address
	// Draining is the health of endpoints that terminate and still serve.
	Draining service.Health
	// Fixed is the health that does not follow the endpoints, under the empty name.
	Fixed Fixed
	// Usable is false if there is an error in what stands in the registry. Other
	// errors are about annotations that nobody knows.
	Usable bool
	// Errors are in a stable order: by key, then as they stand in the value. The
	// Service field of each is empty.
	Errors []Error
}

// ParseService reads the annotations of a Service that has the given ports. One
// dialect counts: Fairway's own if service-sync or service-name is there under its
// prefix, or if nothing is under Consul's.
func ParseService(annotations map[string]string, ports []service.Port) Declaration {
	p := serviceParser{annotations: annotations, ports: ports}
	p.out = Declaration{Usable: true, Weights: service.Weights{Passing: 1, Warning: 1}, Draining: service.Critical}
	if p.inConsulsDialect() {
		p.consul()
	} else {
		p.native()
	}
	p.checkPorts()
	slices.SortStableFunc(p.out.Errors, func(a, b Error) int { return cmp.Compare(a.Key, b.Key) })
	return p.out
}

// NameProblem says what is wrong with a service name that was made and not read
// from an annotation; empty if it can be looked up by DNS.
func NameProblem(name string) string {
	if name == "" {
		return "the service name is empty"
	}
	return checkName(0, name, nil)
}

// serviceParser reads one Service.
type serviceParser struct {
	annotations map[string]string
	ports       []service.Port
	out         Declaration
}

// refuse reports what makes the Service unusable.
func (p *serviceParser) refuse(key string, problems ...string) {
	for _, problem := range problems {
		p.out.Usable = false
		p.complain(key, problem)
	}
}

func (p *serviceParser) complain(key, problem string) {
	p.out.Errors = append(p.out.Errors, Error{Key: key, Value: p.annotations[key], Problem: problem})
}

// defaultPorts takes the first TCP port for the main one, the first of any kind if
// there is none, and each other port that has a name along with it.
func (p *serviceParser) defaultPorts() {
	if len(p.ports) == 0 {
		return
	}
	main := max(0, slices.IndexFunc(p.ports, func(port service.Port) bool { return port.Protocol == "TCP" }))
	p.setPorts(main)
}

// setPorts makes port i of the Service the main one, and the others the further.
func (p *serviceParser) setPorts(i int) {
	p.out.Port = p.ports[i]
	for j, port := range p.ports {
		if j != i && port.Name != "" {
			p.out.Further = append(p.out.Further, port)
		}
	}
}

// checkPorts refuses meta that stands where a port does, and too much of it.
func (p *serviceParser) checkPorts() {
	for _, port := range p.out.Further {
		if _, taken := p.out.Meta[portMeta+port.Name]; taken {
			p.refuse(p.metaKey(portMeta+port.Name), "port "+quote(port.Name)+" stands in the meta as "+
				quote(portMeta+port.Name)+" by itself: remove one")
		}
	}
	if n := len(p.out.Meta) + len(p.out.Further); n > maxServiceMeta {
		p.refuse(Native+fieldPort, tooManyPairs(n, service.MetaOwnedByServices)+
			"; each port after the first that has a name is one: list those that are to be there")
	}
}

// metaKey is the annotation that has set a key of the meta.
func (p *serviceParser) metaKey(key string) string {
	if _, consul := p.annotations[Consul+fieldMetaKey+key]; consul {
		return Consul + fieldMetaKey + key
	}
	return Native + fieldMeta
}

// maxServiceMeta is how many pairs of meta are left to a Service.
const maxServiceMeta = 64 - service.MetaOwnedByServices
