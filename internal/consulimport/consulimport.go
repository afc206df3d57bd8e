// Package consulimport decides which Services and EndpointSlices should stand
// in Kubernetes for services of Consul, and what must be written to get there.
// It is pure.
//
// [Decide] compares what the Consul servers said with what there is in
// Kubernetes, for all imports at once. The rules:
//
//  1. What is not Fairway's is never written. A name that is taken is
//     reported, not fought over (I5).
//  2. Consul is known or unknown, service by service. An answer that failed, was
//     filtered by ACLs, or may lag behind the leader is unknown, and then all of
//     that service stays as it is (I1).
//  3. An endpoint leaves if Consul shows its instance, and shows it as not
//     passing or not asked for; or if a usable answer no longer has it while it
//     has others. If the answer has nothing at all of the service, a second one
//     must say the same [ConfirmAfter] later.
//  4. Once the servers' index went back, what they know was wiped or restored:
//     what an answer does not have then is held until it is seen again, or a
//     person lets it go. What was written keeps the index with it, and then that
//     it is held, so that neither is forgotten in a restart.
//  5. If many Services would lose everything at once they are frozen; see the
//     breaker in breaker.go.
//  6. A Service outlives its instances by [DeleteAfter], or for good, because
//     its address may be in use.
//  7. An endpoint that does not change is not moved, and nothing is written that
//     is as it should be (I6).
package consulimport

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"fairway.dev/fairway/internal/service"
)

const (
	// ConfirmAfter is how long after an answer that has nothing of a service
	// another one must be asked for that says the same.
	ConfirmAfter = 5 * time.Second
	// DeleteAfter is how long Consul must have had nothing of a service before
	// its Service is deleted.
	DeleteAfter = 15 * time.Minute
	// Before is a mark higher than any index: however far that has come since,
	// what has the mark is from before it went back.
	Before = math.MaxUint64
	// maxEndpoints is how many endpoints a slice gets, as Kubernetes' own have.
	maxEndpoints = 100
)

// Where says in which catalog of Consul services are. The zero value is that of
// the servers that are asked.
type Where struct {
	Datacenter string
	Peer       string
	Namespace  string // of Consul Enterprise
	Partition  string // of Consul Enterprise
}

// Origin names one service of Consul.
type Origin struct {
	Where
	Name string
}

// String is the name as people say it, with what is not the default.
func (o Origin) String() string {
	var where []string
	for _, part := range []struct{ what, value string }{
		{"datacenter", o.Datacenter}, {"peer", o.Peer}, {"namespace", o.Namespace}, {"partition", o.Partition},
	} {
		if part.value != "" {
			where = append(where, part.what+" "+part.value)
		}
	}
	if len(where) == 0 {
		return o.Name
	}
	return o.Name + " (" + strings.Join(where, ", ") + ")"
}

func (w Where) compare(other Where) int {
	return cmp.Or(cmp.Compare(w.Datacenter, other.Datacenter), cmp.Compare(w.Peer, other.Peer),
		cmp.Compare(w.Namespace, other.Namespace), cmp.Compare(w.Partition, other.Partition))
}

func (o Origin) compare(other Origin) int {
	return cmp.Or(o.Where.compare(other.Where), cmp.Compare(o.Name, other.Name))
}

// Ref names an object of Kubernetes.
type Ref struct {
	Namespace string
	Name      string
}

// String is "namespace/name", the form that kubectl users know.
func (r Ref) String() string { return r.Namespace + "/" + r.Name }

func (r Ref) compare(other Ref) int {
	return cmp.Or(cmp.Compare(r.Namespace, other.Namespace), cmp.Compare(r.Name, other.Name))
}

// Type is the kind of Service that an import makes.
type Type string

// The values of Type.
const (
	ClusterIP    Type = "ClusterIP"
	Headless     Type = "Headless"
	ExternalName Type = "ExternalName"
)

// Import is one ConsulImport.
type Import struct {
	Ref Ref
	UID string

	Where   Where
	Names   []string // the services; or
	Pattern string   // a regular expression that matches the whole name
	Tags    []string // that an instance must have
	// IncludeOwn imports also what Fairway published from this cluster.
	IncludeOwn bool

	Template    string // of the Service's name, see ServiceName
	Type        Type
	Ports       []ImportPort // none is one without a name
	Labels      map[string]string
	Annotations map[string]string
	Retain      bool // a Service stays although Consul has nothing of it

	// AllowedUntil is until when a person lets all removals of the import pass.
	AllowedUntil time.Time
}

// ImportPort is a port that an import asks for.
type ImportPort struct {
	Name     string
	Port     uint16 // that clients use; 0 is what most instances have
	Protocol string // TCP if empty
	Consul   string // name of a further port of the instances; empty is the port itself
}

// kind is the type that an import asks for.
func (in *Import) kind() Type { return cmp.Or(in.Type, ClusterIP) }

// Read says how an answer of the Consul servers came about. The zero value is
// that of a question that was not asked yet.
type Read struct {
	Asked    time.Time
	Index    uint64
	Problem  string // why no answer came that could be used
	Filtered bool   // ACLs have left something out
	Stale    bool   // it may lag behind the leader
}

// unknown says why the answer proves nothing, and is empty if it does.
func (r Read) unknown() string {
	switch {
	case r.Problem != "":
		return r.Problem
	case r.Asked.IsZero():
		return "Consul has not answered yet"
	case r.Filtered:
		return "Consul's ACLs have filtered the answer: the token must be let read the service and the nodes"
	case r.Stale:
		return "the answer may lag behind Consul's leader"
	case r.Index == 0:
		return "the answer has no index of Consul"
	}
	return ""
}

// unasked tells whether there was no answer at all yet.
func (r Read) unasked() bool { return r.Problem == "" && r.Asked.IsZero() }

// Listing is what the servers said of which services there are. It only ever
// adds: what it lacks is asked for by name.
type Listing struct {
	Read
	Names []string
}

// Answer is what the servers said of one service.
type Answer struct {
	Read
	Instances []Instance
}

// Instance is an instance of a service as Consul gives it to clients.
type Instance struct {
	ID     string
	Node   string
	Health service.Health // of all its checks, the node's too
	// Address is where it is reached, the node's if it has none of its own;
	// invalid if that is a host name.
	Address netip.Addr
	Host    string // the host name in place of Address
	Port    uint16
	Tagged  map[string]netip.AddrPort // see service.TaggedLANIPv4
	Ports   map[string]uint16         // further ports, by name
	Tags    []string
	Cluster string // service.MetaCluster
	Zone    string
	Weights service.Weights
}

// Object is what our Services and EndpointSlices have in common.
type Object struct {
	Ref Ref
	// Import is the name of the ConsulImport that the object was made for. It is
	// empty if the object is not Fairway's: it lacks the label, something else
	// controls it, or it is a Service with a selector.
	Import string
	Owner  string // UID of the ConsulImport that owns it
	Origin Origin
	// Mark is Consul's index when the object was last written, or Before while it
	// holds what Consul has not shown since its index went back.
	Mark uint64
	// Version is the object's as read, empty for a new one: a write must find
	// what was decided about.
	Version string
}

// Port is a port of a Service, or of a slice's endpoints.
type Port struct {
	Name     string
	Port     uint16
	Protocol string
}

// Service is a Kubernetes Service without a selector.
type Service struct {
	Object
	Type         Type
	Ports        []Port
	ExternalName string
	// Labels and Annotations are those that an import asks for. What others have
	// set on an existing Service is not among them.
	Labels      map[string]string
	Annotations map[string]string
}

// Family is the kind of addresses in a slice.
type Family string

// The values of Family.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// Slice is an EndpointSlice.
type Slice struct {
	Object
	Service   string // its name, in the same namespace
	Headless  bool   // the label that says so to kube-proxy
	Family    Family
	Ports     []Port
	Endpoints []Endpoint
}

// State is how an endpoint takes requests.
type State string

// The values of State. Any other is not ours.
const (
	// Ready: the instance passes.
	Ready State = "ready"
	// Spare: the instance is in state warning. In Kubernetes it is an endpoint
	// that serves and terminates, which gets requests if no other is ready.
	Spare State = "spare"
)

// Endpoint is one address of a slice.
type Endpoint struct {
	Address netip.Addr
	State   State
	Zone    string
}

// Input is everything Decide looks at.
type Input struct {
	Cluster string // own cluster id, not empty
	Now     time.Time
	// Imports are those that are there and not being deleted. The objects of one
	// that is missing are left alone: Kubernetes removes them with their owner.
	Imports  []Import
	Listings map[Where]Listing
	Answers  map[Origin]Answer
	// Services and Slices are all of the imports' namespaces, those of others
	// too. Nothing is removed because one is missing.
	Services []Service
	Slices   []Slice
	// Refused says, by Service, why the API server did not take the last write.
	Refused map[Ref]string
	// MaxShare, from 0 to 1, is the largest share of the Services with endpoints
	// that may lose them all within a minute; 1 is all.
	MaxShare float64
}

// Verb says what an Op does.
type Verb string

// The kinds of Verb.
const (
	Create Verb = "create"
	Update Verb = "update"
	Delete Verb = "delete"
)

// Op is one write, and why it is made. Exactly one of Service and Slice is set:
// the whole object as it should be, or for Delete as it is.
type Op struct {
	Verb    Verb
	Service *Service
	Slice   *Slice
	Reason  string
}

// String is the op as it stands in a log.
func (o Op) String() string {
	if o.Service != nil {
		return fmt.Sprintf("%s Service %s: %s", o.Verb, o.Service.Ref, o.Reason)
	}
	return fmt.Sprintf("%s EndpointSlice %s: %s", o.Verb, o.Slice.Ref, o.Reason)
}

// Held is what stays although Consul does not show it, or shows it otherwise,
// and why.
type Held struct {
	Service   Ref
	Import    Ref
	Endpoints int // how many
	Reason    string
	Message   string // why, and what it waits for
	Since     time.Time
}

// Question is a service that must be asked about again.
type Question struct {
	Origin Origin
	After  time.Time // an answer that was asked for earlier is no use
}

// Plan is what is to be written, in the order in which it must be: what adds
// endpoints before what removes them. Equal input gives an equal plan, in
// whatever order it is listed.
type Plan struct {
	Ops  []Op
	Held []Held
	// Listings and Answers are what Consul must be asked for, all the time.
	Listings []Where
	Answers  []Origin
	// Again are questions whose answers must be newer than what is known.
	Again    []Question
	Statuses []Status
	// Next is when to decide again although nothing has changed; 0 is never.
	Next time.Duration
}
