// Package service holds the values that every part of Fairway shares: pods as
// the core sees them, the instances they declare, and the names under which
// Fairway marks what is its own.
//
// The package is pure: plain values and functions of them, no client, clock,
// logger or goroutine.
package service

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// GateReachable is the pod readiness gate, and the pod condition, that Fairway
// opens when clients can reach the pod.
const GateReachable = "fairway.dev/reachable"

// GateKatalog is katalog-sync's readiness gate. It too waits for a registration,
// so it counts for no health. Fairway opens it only where it is told to take
// katalog-sync's place, or to hand back to it.
const GateKatalog = "katalog-sync.wish.com/synced"

// ConditionAnnotations is the pod condition that says whether Fairway could
// understand the pod's annotations. It is written only once there was
// something to complain about.
const ConditionAnnotations = "fairway.dev/annotations-valid"

// Meta keys that Fairway sets on every entry it writes; users cannot override
// them. The external-* names are those that the Consul UI and users of
// katalog-sync already know. MetaOwned is how many there are: a registry's
// limit on pairs leaves so many fewer to the user.
const (
	MetaCluster   = "fairway-cluster"
	MetaNode      = "fairway-node"
	MetaPodUID    = "fairway-pod-uid"
	MetaSource    = "external-source"
	MetaNamespace = "external-k8s-namespace"
	MetaPod       = "external-k8s-pod"

	MetaOwned = 6
)

// Meta keys that only instances of Kubernetes Services have; MetaNode is not among
// theirs, because they belong to no node's agent. Those that begin with external-
// are known to users of Consul's own catalog sync, but for the Service's name.
// MetaOwnedByServices is how many an instance can have, with those of pods.
const (
	MetaService    = "external-k8s-service"
	MetaServiceUID = "fairway-service-uid"
	MetaEndpoint   = "fairway-endpoint" // EndpointRef.Key
	// MetaStatedBy is the Kubernetes object that states the endpoint, as
	// Kind/namespace/name. Until that object is known to state it no more, the
	// endpoint is not gone.
	MetaStatedBy     = "fairway-stated-by"
	MetaEndpointNode = "external-k8s-node-name"
	MetaZone         = "external-k8s-topology-zone"

	MetaOwnedByServices = MetaOwned - 1 + 6
)

// PodRef names one life of a pod: a pod that is deleted and made again under
// the same name has another UID and is another PodRef.
type PodRef struct {
	Namespace string
	Name      string
	UID       string
}

// String is "namespace/name", the form that kubectl users know.
func (r PodRef) String() string { return r.Namespace + "/" + r.Name }

// Phase is the pod's phase as the API defines it (Pending, Running, Succeeded,
// Failed, Unknown).
type Phase string

// The phases of the Kubernetes API.
const (
	PhasePending   Phase = "Pending"
	PhaseRunning   Phase = "Running"
	PhaseSucceeded Phase = "Succeeded"
	PhaseFailed    Phase = "Failed"
	PhaseUnknown   Phase = "Unknown"
)

// Pod is what the core needs to know of a pod, as of one moment.
type Pod struct {
	Ref         PodRef
	Annotations map[string]string
	// SpecFromAPI is true if annotations, ports, gates and conditions are the API
	// server's word, and not a kubelet's copy of it, which may be older.
	SpecFromAPI bool
	// Addresses are the pod's IPs, the primary one first; empty until the
	// kubelet has reported one.
	Addresses []netip.Addr
	// Ports are the container ports that the pod declares, regular containers
	// in spec order, then native sidecars.
	Ports []ContainerPort
	// Containers are those that count for the pod's readiness: regular
	// containers in spec order, then native sidecars. Empty if the source of the
	// pod does not tell them apart.
	Containers []Container
	Phase      Phase
	// Terminating is true from the moment of the DELETE request on.
	Terminating bool
	// ContainersReady is the pod condition of that name, which counts native
	// sidecars and leaves readiness gates out.
	ContainersReady bool
	// Ready is the pod condition of that name, as the API server has it where it
	// knows the pod: what a kubelet that starts has to believe. It must never be
	// used for health: it waits for our own gate.
	Ready bool
	// ContainersReadySince is when ContainersReady last changed, zero if the
	// condition does not exist yet. The API rounds it to seconds.
	ContainersReadySince time.Time
	// NotReadyMessage is the kubelet's own words on what is not ready.
	NotReadyMessage string
	// AllRunning tells whether every container that should run does: the
	// regular ones and native sidecars.
	AllRunning bool
	// Restarts counts how often these containers were started again.
	Restarts int
	// HeldReady says why the containers count as ready although the kubelet
	// reports that they are not; see podset.Settle. Empty if they do not.
	HeldReady string
	// Gates are the pod's readiness gates, with the state of their conditions.
	Gates []Gate
	// Conditions are the pod conditions that Fairway owns, by type.
	Conditions map[string]Condition
}

// Container is one container of a pod.
type Container struct {
	Name string
	// Ready is false as long as nothing was reported of the container.
	Ready bool
}

// ContainerPort is a port that a container declares.
type ContainerPort struct {
	Name     string
	Port     uint16
	Protocol string // TCP, UDP or SCTP
}

// Port is a port of a Kubernetes Service.
type Port struct {
	Name     string // empty if it has none, and then it is the only one
	Port     uint16 // at the Service's own addresses
	NodePort uint16 // at each node, 0 if there is none
	Protocol string // TCP, UDP or SCTP
}

// Gate is one of a pod's readiness gates.
type Gate struct {
	Type string
	Open bool
}

// Condition is a pod condition. An absent condition has an empty Status.
type Condition struct {
	Status  ConditionStatus
	Reason  string
	Message string
	Since   time.Time
}

// ConditionStatus is True, False or Unknown.
type ConditionStatus string

// The values of ConditionStatus.
const (
	ConditionTrue    ConditionStatus = "True"
	ConditionFalse   ConditionStatus = "False"
	ConditionUnknown ConditionStatus = "Unknown"
)

// Gated tells whether the pod waits for Fairway before it can be Ready.
func (p Pod) Gated() bool { return p.HasGate(GateReachable) }

// HasGate tells whether the pod has one of the readiness gates.
func (p Pod) HasGate(gates ...string) bool {
	return slices.ContainsFunc(p.Gates, func(g Gate) bool { return slices.Contains(gates, g.Type) })
}

// Closed are those of the readiness gates that the pod has and that are not open.
func (p Pod) Closed(gates ...string) []string {
	var closed []string
	for _, g := range p.Gates {
		if slices.Contains(gates, g.Type) && !g.Open && p.Conditions[g.Type].Status != ConditionTrue {
			closed = append(closed, g.Type)
		}
	}
	return closed
}

// Ended tells whether all containers of the pod have stopped for good.
func (p Pod) Ended() bool { return p.Phase == PhaseSucceeded || p.Phase == PhaseFailed }

// Running tells whether the pod has been started and is not about to end.
func (p Pod) Running() bool { return p.Phase == PhaseRunning && !p.Terminating }

// Status is the health of a pod's instances, and why, if the containers named in
// excluded do not count.
func (p Pod) Status(excluded ...string) (Health, string) {
	switch {
	case p.Terminating:
		return Critical, "pod is terminating"
	case p.Ended():
		return Critical, "pod has ended: phase " + string(p.Phase)
	}
	if problem := p.NotReady(excluded...); problem != "" {
		return Critical, problem
	}
	for _, g := range p.Gates {
		if g.Type != GateReachable && g.Type != GateKatalog && !g.Open {
			return Critical, "readiness gate " + g.Type + " is not open"
		}
	}
	if p.HeldReady != "" {
		return Passing, p.HeldReady
	}
	return Passing, "containers are ready" + notCounting(excluded)
}

// NotReady says why the pod's containers are not ready if those named in
// excluded do not count, and is empty if they are. Without an exclusion the
// kubelet's own word is taken.
func (p Pod) NotReady(excluded ...string) string {
	switch {
	case p.ContainersReady:
		return ""
	case len(excluded) == 0 || len(p.Containers) == 0:
		if p.NotReadyMessage != "" {
			return "containers are not ready: " + p.NotReadyMessage
		}
		return "containers are not ready"
	case p.Phase != PhaseRunning:
		return "pod is not running: phase " + string(p.Phase)
	}
	var unready []string
	for _, c := range p.Containers {
		if !c.Ready && !slices.Contains(excluded, c.Name) {
			unready = append(unready, c.Name)
		}
	}
	if len(unready) == 0 {
		return ""
	}
	return "containers are not ready: " + strings.Join(unready, ", ") + notCounting(excluded)
}

func notCounting(excluded []string) string {
	if len(excluded) == 0 {
		return ""
	}
	return " (not counting " + strings.Join(excluded, ", ") + ")"
}
