package export

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// Object names an object of the API server.
type Object struct {
	Kind      string // see the constants
	Namespace string // empty if it has none
	Name      string
}

// The kinds of objects that are looked at.
const (
	KindService       = "Service"
	KindEndpointSlice = "EndpointSlice"
	KindNode          = "Node"
	KindNamespace     = "Namespace"
	KindIngress       = "Ingress"
	KindHTTPRoute     = "HTTPRoute"
	KindGateway       = "Gateway"
)

// String is "Kind/namespace/name", the form of service.MetaStatedBy.
func (o Object) String() string { return o.Kind + "/" + o.Namespace + "/" + o.Name }

func (o Object) compare(other Object) int { return cmp.Compare(o.String(), other.String()) }

// joined writes objects as the value of service.MetaStatedBy, as many as fit.
func joined(objects []Object) string {
	const longest = 512 // bytes that Consul takes
	text := ""
	for _, object := range objects {
		if len(text)+1+len(object.String()) > longest {
			break
		}
		text += "," + object.String()
	}
	return strings.TrimPrefix(text, ",")
}

// parseObjects reads what joined has written. It is not ok if somebody else has
// written it.
func parseObjects(text string) (objects []Object, ok bool) {
	for item := range strings.SplitSeq(text, ",") {
		parts := strings.Split(item, "/")
		if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
			return nil, false
		}
		objects = append(objects, Object{Kind: parts[0], Namespace: parts[1], Name: parts[2]})
	}
	return objects, true
}

// Cluster is what is known of the Kubernetes cluster, each object once.
//
// An object is stated if a list or an event has shown it and nothing was heard
// against it. It is Missing if it was, and then a list lacked it; its fields are as
// they were last seen. What is in Gone was proven to be no more, by an event or by
// an answer about that very object; should it also be stated, the statement counts.
type Cluster struct {
	Services   []Service
	Slices     []EndpointSlice
	Nodes      []Node
	Namespaces []Namespace
	Ingresses  []Ingress
	Routes     []HTTPRoute
	Gateways   []Gateway
	// Gone says what proves that an object is no more.
	Gone map[Object]string
}

// withoutGone is the cluster without what is missing and was proven gone since.
func (c Cluster) withoutGone() Cluster {
	c.Services = known(c, c.Services, func(s Service) bool { return s.Missing })
	c.Slices = known(c, c.Slices, func(s EndpointSlice) bool { return s.Missing })
	c.Nodes = known(c, c.Nodes, func(n Node) bool { return n.Missing })
	c.Ingresses = known(c, c.Ingresses, func(i Ingress) bool { return i.Missing })
	c.Routes = known(c, c.Routes, func(r HTTPRoute) bool { return r.Missing })
	c.Gateways = known(c, c.Gateways, func(g Gateway) bool { return g.Missing })
	return c
}

func known[T interface{ Object() Object }](c Cluster, objects []T, missing func(T) bool) []T {
	gone := func(object T) bool { return missing(object) && c.Gone[object.Object()] != "" }
	if !slices.ContainsFunc(objects, gone) {
		return objects
	}
	return slices.DeleteFunc(slices.Clone(objects), gone)
}

// ServiceType is the type of a Service as the API has it.
type ServiceType string

// The types of the API.
const (
	TypeClusterIP    ServiceType = "ClusterIP"
	TypeNodePort     ServiceType = "NodePort"
	TypeLoadBalancer ServiceType = "LoadBalancer"
	TypeExternalName ServiceType = "ExternalName"
)

// Service is what the core needs to know of a Kubernetes Service.
type Service struct {
	Namespace   string
	Name        string
	UID         string
	Labels      map[string]string
	Annotations map[string]string
	Type        ServiceType
	Ports       []service.Port
	// Headless is true if the cluster IP is "None".
	Headless   bool
	ClusterIPs []netip.Addr // in order of the Service's families; empty until there are some
	// HasSelector is true if Kubernetes keeps the EndpointSlices.
	HasSelector  bool
	ExternalIPs  []netip.Addr
	ExternalName string
	Balancer     []BalancerAddress // status.loadBalancer.ingress
	// Imported is true if Fairway made the Service of one that Consul has.
	Imported bool
	Missing  bool
}

// Object names the Service.
func (s Service) Object() Object { return Object{KindService, s.Namespace, s.Name} }

// BalancerAddress is one place at which a load balancer takes requests. One of the
// fields is set.
type BalancerAddress struct {
	IP       netip.Addr
	Hostname string
}

// AddressType is what the addresses of an EndpointSlice are.
type AddressType string

// The address types of the API.
const (
	IPv4 AddressType = "IPv4"
	IPv6 AddressType = "IPv6"
	FQDN AddressType = "FQDN"
)

// EndpointSlice is a part of a Service's endpoints.
type EndpointSlice struct {
	Namespace   string
	Name        string
	Service     string // label kubernetes.io/service-name
	AddressType AddressType
	Endpoints   []Endpoint
	// Ports are those of each endpoint; none at all means that the endpoints have
	// no defined ports.
	Ports   []EndpointPort
	Missing bool
}

// Object names the slice.
func (s EndpointSlice) Object() Object { return Object{KindEndpointSlice, s.Namespace, s.Name} }

// Endpoint is one endpoint of a slice.
type Endpoint struct {
	// Addresses are as they are written, IPs or names by the slice's type. They are
	// interchangeable: the first counts.
	Addresses []string
	// The conditions may be nil, which the API defines.
	Ready, Serving, Terminating *bool
	Target                      Target
	Node                        string // empty if it is on none
	Zone                        string
}

// Target is the object behind an endpoint, mostly a pod; zero if there is none.
type Target struct {
	Kind string
	Name string
	UID  string
}

// EndpointPort is a port of a slice. A nil Port leaves open which port is meant.
type EndpointPort struct {
	Name string
	Port *uint16
}

// Node is a node of the cluster.
type Node struct {
	Name     string
	Internal []netip.Addr
	External []netip.Addr
	Missing  bool
}

// Object names the node.
func (n Node) Object() Object { return Object{KindNode, "", n.Name} }

// Namespace is a namespace and its labels.
type Namespace struct {
	Name    string
	Labels  map[string]string
	Missing bool
}

// Object names the namespace.
func (n Namespace) Object() Object { return Object{KindNamespace, "", n.Name} }

// Ingress is what the core needs to know of an Ingress.
type Ingress struct {
	Namespace string
	Name      string
	Rules     []IngressRule
	// TLS are the hosts that are served by HTTPS.
	TLS     []string
	Missing bool
}

// Object names the Ingress.
func (i Ingress) Object() Object { return Object{KindIngress, i.Namespace, i.Name} }

// IngressRule leads requests for a host to Services. A rule without paths is none.
type IngressRule struct {
	Host  string // empty: any
	Paths []IngressPath
}

// IngressPath leads requests for a path to a Service of the Ingress's namespace.
type IngressPath struct {
	Path    string // empty is "/"
	Service string // empty if it leads elsewhere
}

// HTTPRoute is what the core needs to know of a route of the Gateway API.
type HTTPRoute struct {
	Namespace string
	Name      string
	Hostnames []string
	Parents   []ParentRef
	Rules     []RouteRule
	Missing   bool
}

// Object names the route.
func (r HTTPRoute) Object() Object { return Object{KindHTTPRoute, r.Namespace, r.Name} }

// ParentRef is a Gateway that a route is attached to.
type ParentRef struct {
	Namespace string // never empty: the route's own is filled in
	Gateway   string
	Section   string // the listener; empty means all
	Accepted  bool   // the Gateway's controller has said so
}

// RouteRule leads requests for paths to Services. No path at all means all.
type RouteRule struct {
	Paths    []string
	Backends []Backend
}

// Backend is a Service that a rule leads to.
type Backend struct {
	Namespace string // never empty: the route's own is filled in
	Service   string
}

// Gateway is what the core needs to know of a Gateway.
type Gateway struct {
	Namespace string
	Name      string
	Listeners []Listener
	Missing   bool
}

// Object names the Gateway.
func (g Gateway) Object() Object { return Object{KindGateway, g.Namespace, g.Name} }

// Listener is where a Gateway takes requests.
type Listener struct {
	Name     string
	Hostname string // empty: any
	Port     uint16
	Protocol string // HTTP, HTTPS and others
}
