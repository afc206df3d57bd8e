package service

import (
	"fmt"
	"net/netip"
	"time"
)

// Health is the state of an instance in the words of Consul's checks.
type Health string

// The values of Health.
const (
	Passing  Health = "passing"
	Warning  Health = "warning"
	Critical Health = "critical"
)

// Instance is one service of one pod, or one endpoint of a Kubernetes Service,
// as it should stand in a registry.
type Instance struct {
	ID   string // see InstanceID and EndpointRef.InstanceID
	Name string // service name
	// Pod is the pod behind the instance. An endpoint that is no pod has no more
	// than a namespace here.
	Pod PodRef
	// Endpoint is set if a Kubernetes Service declares the instance, and not a pod
	// for itself.
	Endpoint EndpointRef
	Address  netip.Addr
	// Hostname is the address of an instance that has a name for it. It is set
	// only if Address is invalid.
	Hostname string
	Port     uint16 // 0 if the service has no port
	// Tagged are the addresses by family, see TaggedAddresses. The port at each is
	// Port.
	Tagged map[string]netip.Addr
	Tags   []string
	// Meta is what the user gave plus Fairway's own keys.
	Meta    map[string]string
	Weights Weights
	// CheckTTL is how long the entry stays in service when nobody renews it. Zero
	// if nothing was asked for, or the registry does not show it.
	CheckTTL time.Duration
	Health   Health
	// Notes says why the instance has its health. It is shown, not compared.
	Notes string
}

// Weights are an instance's shares of the traffic, by its health. Consul gives
// them to clients that ask by DNS (SRV) or by its API; its default is 1 and 1.
type Weights struct {
	Passing int // 1 to 65535
	Warning int // 0 to 65535
}

// The names under which Consul finds an instance's address of one family. It
// gives the wan ones to other datacenters if translate_wan_addrs is on.
const (
	TaggedLANIPv4 = "lan_ipv4"
	TaggedWANIPv4 = "wan_ipv4"
	TaggedLANIPv6 = "lan_ipv6"
	TaggedWANIPv6 = "wan_ipv6"
)

// TaggedAddresses names the first address of each family, as Consul's agent does
// by itself with an instance's main address alone: a pod has one address for
// near and far.
func TaggedAddresses(addresses []netip.Addr) map[string]netip.Addr {
	tagged := map[string]netip.Addr{}
	for _, address := range addresses {
		if !address.IsValid() {
			continue
		}
		lan, wan := TaggedLANIPv6, TaggedWANIPv6
		if address.Unmap().Is4() {
			lan, wan = TaggedLANIPv4, TaggedWANIPv4
		}
		if _, taken := tagged[lan]; !taken {
			tagged[lan], tagged[wan] = address, address
		}
	}
	return tagged
}

// InstanceID is the registry ID of service name on a pod. It holds the UID, so
// that a pod made again under the same name is another entry and no proof
// about one can pass for the other.
func InstanceID(name string, pod PodRef) string {
	return fmt.Sprintf("fairway_%s_%s_%s_%s", name, pod.Namespace, pod.Name, pod.UID)
}

// EndpointRef names one endpoint of a Kubernetes Service. It does not hold the
// Service's UID: an endpoint of a Service that is made again under its name is the
// same place for clients, and they must not be without it in between.
type EndpointRef struct {
	Namespace string
	Service   string
	// Key tells the endpoints of the Service apart: what kind of address it is and
	// which, such as "pod-" and the UID of the pod. It holds no '_'.
	Key string
}

// String is "namespace/service/key".
func (r EndpointRef) String() string { return r.Namespace + "/" + r.Service + "/" + r.Key }

// InstanceID is the registry ID of the endpoint under a service name. The name
// comes last, because it alone may hold a '_'; an ID of a pod's own instance has
// fewer parts.
func (r EndpointRef) InstanceID(name string) string {
	return fmt.Sprintf("fairway_%s_%s_%s_svc_%s", r.Namespace, r.Service, r.Key, name)
}

// Owner is the key of what the instance stands and falls with: the UID of its pod,
// or the endpoint of a Service. It is empty if that is not known.
func (in Instance) Owner() string {
	if in.Endpoint != (EndpointRef{}) {
		return in.Endpoint.String()
	}
	return in.Pod.UID
}
