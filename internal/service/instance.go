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

// Instance is one service of one pod, as it should stand in a registry.
type Instance struct {
	ID      string // see InstanceID
	Name    string // service name
	Pod     PodRef
	Address netip.Addr
	Port    uint16 // 0 if the service has no port
	// Tagged are the pod's addresses by family, see TaggedAddresses. The port at
	// each is Port.
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
