package export

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// Verdict says whether a Service is published.
type Verdict string

// The values of Verdict.
const (
	Published   Verdict = "published"
	Unpublished Verdict = "unpublished"
	// Undecided is what is not understood, or depends on what is missing: what
	// stands in the registry stays, and follows the health.
	Undecided Verdict = "undecided"
)

// externalIP is the address of Services that have external IPs.
const externalIP annotation.Address = "external-ip"

// Result is what one Service asks for.
type Result struct {
	Service Object
	UID     string // of the Service
	Verdict Verdict
	Reason  string // why; for a person who wonders
	Name    string // the name in Consul, if it is published
	Address annotation.Address
	// Instances are complete, with health. They are in the order of their IDs.
	Instances []service.Instance
	// Skipped are endpoints that have no instance, and why, in the order of their
	// keys.
	Skipped []Skipped
	// Errors are what is wrong with the annotations. Some leave the verdict as it is:
	// an annotation that nobody knows.
	Errors []annotation.Error

	places []place
}

// Skipped is an endpoint that is not registered.
type Skipped struct {
	Key    string // empty if nothing tells it apart from others
	Pod    string // its name, if it is one
	Reason string
}

// place is where a Service takes requests, and its instance unless that cannot be
// made.
type place struct {
	key      string
	pod      service.PodRef
	health   health
	shared   bool // by several endpoints: the health is that of the best
	instance service.Instance
	problem  string // why there is no instance; what is registered is kept
	absent   string // why there is to be none
	gone     string // what proves that the place is no more
}

// Instances says what one Service of the cluster asks for. It always gives the same
// answer for the same cluster, in whatever order it is listed.
func Instances(svc Service, cluster Cluster, policy Policy) Result {
	return newReading(cluster, policy).describe(svc).result()
}

// reading is a cluster, sorted by what is asked of it.
type reading struct {
	Cluster
	policy     Policy
	services   map[Object]*Service
	slices     map[Object][]EndpointSlice // by Service
	nodes      map[string]Node
	namespaces map[string]Namespace
	stated     map[Object]bool // what a list or an event has shown, and nothing was heard against
}

func newReading(cluster Cluster, policy Policy) *reading {
	r := &reading{
		Cluster: cluster.withoutGone(), policy: policy,
		services: make(map[Object]*Service, len(cluster.Services)), slices: make(map[Object][]EndpointSlice, len(cluster.Services)),
		nodes: make(map[string]Node, len(cluster.Nodes)), namespaces: make(map[string]Namespace, len(cluster.Namespaces)),
		stated: make(map[Object]bool, len(cluster.Services)+len(cluster.Slices)),
	}
	for i, svc := range r.Services {
		r.services[svc.Object()], r.stated[svc.Object()] = &r.Services[i], !svc.Missing
	}
	for _, slice := range r.Slices {
		svc := Object{KindService, slice.Namespace, slice.Service}
		r.slices[svc], r.stated[slice.Object()] = append(r.slices[svc], slice), !slice.Missing
	}
	for _, node := range r.Nodes {
		r.nodes[node.Name] = node
	}
	for _, namespace := range r.Namespaces {
		r.namespaces[namespace.Name] = namespace
	}
	for _, ingress := range r.Ingresses {
		r.stated[ingress.Object()] = !ingress.Missing
	}
	for _, route := range r.Routes {
		r.stated[route.Object()] = !route.Missing
	}
	return r
}

// result decides about one Service.
func (d *described) result() Result {
	out := Result{Service: d.svc.Object(), UID: d.svc.UID, Errors: d.declared.Errors}
	out.Verdict, out.Reason = d.verdict()
	if out.Verdict != Published {
		return out
	}
	out.Name = cmp.Or(d.declared.Name, d.policy.Name.of(d.policy.Cluster, d.svc))
	if d.declared.Name == "" {
		if problem := annotation.NameProblem(out.Name); problem != "" {
			out.Verdict, out.Reason = Undecided, "the name made for it is not good: "+problem+"; give one by "+annotation.Native+"service-name"
			return out
		}
	}
	d.name = out.Name
	d.look()
	places, reason, undecided := d.places()
	out.Address, out.Reason = d.address, cmp.Or(reason, out.Reason)
	if undecided {
		out.Verdict = Undecided
		return out
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.key, b.key) })
	out.places = places
	out.Instances = make([]service.Instance, 0, len(places))
	out.Skipped = slices.SortedFunc(slices.Values(d.unreadable), func(a, b Skipped) int { return cmp.Compare(a.Reason, b.Reason) })
	for _, p := range places {
		if why := cmp.Or(p.gone, p.absent, p.problem); why != "" {
			out.Skipped = append(out.Skipped, Skipped{p.key, p.pod.Name, why})
		} else {
			out.Instances = append(out.Instances, p.instance)
		}
	}
	slices.SortFunc(out.Instances, func(a, b service.Instance) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// verdict says whether a Service is to be published, and why.
func (d *described) verdict() (Verdict, string) {
	if verdict, reason := d.selected(); verdict != Published {
		return verdict, reason
	}
	p, sync := d.policy, d.declared.Sync
	kind, supported := p.typeOf(d.svc)
	switch {
	case sync != nil && !*sync:
		return Unpublished, "an annotation says so"
	case !d.declared.Usable:
		return Undecided, "an annotation is not understood"
	case sync == nil && d.svc.Imported:
		return Unpublished, "it was made of a Consul service"
	case sync == nil && !p.Sync:
		return Unpublished, "no annotation asks for it"
	case !supported:
		return Unpublished, fmt.Sprintf("nothing is known of Services of type %q", d.svc.Type)
	case kind.value == Off && d.declared.Address == "":
		return Unpublished, "Services of type " + kind.name + " are switched off"
	case sync != nil:
		return Published, "an annotation asks for it"
	default:
		return Published, "all Services are published"
	}
}

// selected says whether the operator lets the Service be published at all.
func (d *described) selected() (Verdict, string) {
	p, at := d.policy, d.svc.Namespace
	namespace, known := d.namespaces[at]
	switch {
	case slices.Contains(p.Deny, at):
		return Unpublished, "namespace " + at + " is denied"
	case !slices.Contains(p.Allow, at) && !slices.Contains(p.Allow, "*"):
		return Unpublished, "namespace " + at + " is not allowed"
	case !p.Selector.Matches(d.svc.Labels):
		return Unpublished, "its labels are not selected"
	case !p.Namespaces.Empty() && (!known || namespace.Missing):
		d.unheard = append(d.unheard, Object{KindNamespace, "", at})
		return Undecided, "the labels of namespace " + at + " are not known"
	case !p.Namespaces.Matches(namespace.Labels):
		return Unpublished, "the labels of namespace " + at + " are not selected"
	}
	return Published, ""
}

// described is one Service.
type described struct {
	*reading
	svc      Service
	declared annotation.Declaration
	name     string   // set once it is published
	unheard  []Object // what is missing and had to be looked at

	// What look finds.
	address   annotation.Address
	hosts     []host
	hostless  []Object            // what may state more hosts, and is missing
	endpoints map[string]endpoint // by key
	missing   string              // an EndpointSlice that may state more
	staters   []Object            // the EndpointSlices that are there, in order
	// unreadable are endpoints that have no key.
	unreadable []Skipped
}

func (r *reading) describe(svc Service) *described {
	return &described{reading: r, svc: svc, declared: annotation.ParseService(svc.Annotations, svc.Ports)}
}

// look finds the endpoints, and chooses what stands for an address.
func (d *described) look() {
	if d.endpoints != nil {
		return
	}
	var stated []EndpointSlice
	for _, slice := range d.slices[d.svc.Object()] {
		if !slice.Missing {
			stated = append(stated, slice)
		} else {
			d.missing = smallest(d.missing, slice.Object().String())
		}
	}
	for _, slice := range stated {
		d.staters = append(d.staters, slice.Object())
	}
	slices.SortFunc(d.staters, Object.compare)
	d.endpoints, d.unreadable = merge(stated)

	kind, _ := d.policy.typeOf(d.svc)
	d.address = cmp.Or(d.declared.Address, kind.value)
	clusterIP := d.svc.Type == TypeClusterIP
	explicit := d.address == annotation.Hostname && d.svc.Type != TypeExternalName
	if explicit || d.declared.Address == "" && clusterIP {
		d.hosts, d.hostless = d.hostsOf(d.svc, explicit || d.policy.Ingress, explicit || d.policy.Gateway)
	}
	switch {
	case d.declared.Address != "":
	case d.policy.ExternalIPs && len(d.svc.ExternalIPs) > 0:
		d.address = externalIP
	case len(d.hosts) > 0 || len(d.hostless) > 0:
		d.address = annotation.Hostname
	}
}

// nodeGone is what proves that a node is gone, empty if nothing does.
func (r *reading) nodeGone(name string) string {
	if node, ok := r.nodes[name]; name == "" || ok && !node.Missing {
		return ""
	}
	return r.Gone[Object{KindNode, "", name}]
}

// instance is one instance of the Service, but for what its place gives it.
func (d *described) instance(p place, statedBy []Object, node, zone string, port uint16, further map[string]uint16) service.Instance {
	ref := service.EndpointRef{Namespace: d.svc.Namespace, Service: d.svc.Name, Key: p.key}
	meta := make(map[string]string, len(d.declared.Meta)+len(further)+service.MetaOwnedByServices)
	maps.Copy(meta, d.declared.Meta)
	for name, number := range further {
		meta["port-"+name] = strconv.Itoa(int(number))
	}
	for key, value := range map[string]string{
		service.MetaCluster: d.policy.Cluster, service.MetaSource: "kubernetes",
		service.MetaNamespace: d.svc.Namespace, service.MetaService: d.svc.Name, service.MetaServiceUID: d.svc.UID,
		service.MetaEndpoint: p.key, service.MetaStatedBy: joined(statedBy),
		service.MetaPod: p.pod.Name, service.MetaPodUID: p.pod.UID, service.MetaEndpointNode: node, service.MetaZone: zone,
	} {
		if value != "" {
			meta[key] = value
		}
	}
	return service.Instance{
		ID: ref.InstanceID(d.name), Name: d.name, Pod: p.pod, Endpoint: ref, Port: port,
		Tags: slices.Clone(d.declared.Tags), Meta: meta, Weights: d.declared.Weights,
		Health: p.health.is, Notes: p.health.notes,
	}
}
