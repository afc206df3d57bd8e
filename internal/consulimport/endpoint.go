package consulimport

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// group is what the endpoints of one slice have in common.
type group struct {
	family Family
	ports  string // see portsKey
}

// place is where an endpoint belongs.
type place struct {
	group   group
	address netip.Addr
}

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.group.family, other.group.family), cmp.Compare(p.group.ports, other.group.ports),
		p.address.Compare(other.address))
}

// socket is an address with one of the ports at which an instance is reached.
type socket = netip.AddrPort

// picture is what a usable answer means for one Service.
type picture struct {
	wanted map[place]Endpoint
	ports  map[string][]Port // of a group, by its key
	// shown says of the sockets of all instances in the answer why they are no
	// endpoints; it is empty for those that are.
	shown    map[socket]string
	hosts    []string                  // host names of passing instances, sorted
	known    map[string]bool           // host names of all instances
	numbers  map[string]map[uint16]int // how many instances have which number, by port name
	selected int                       // how many instances are meant
	// What cannot be endpoints, and whether weights differ: see notes.
	own, named, unusable, portless int
	unequal                        bool
	lacks                          string // what portless ones lack
}

// draw makes the picture of an answer for a claim.
func draw(c claim, answer Answer, cluster string) *picture {
	n := len(answer.Instances)
	p := &picture{
		wanted: make(map[place]Endpoint, n), ports: map[string][]Port{}, shown: make(map[socket]string, n),
		known: map[string]bool{}, numbers: map[string]map[uint16]int{},
		lacks: c.in.lacks(),
	}
	weights := map[service.Weights]bool{}
	for _, in := range inOrder(answer.Instances) {
		why := c.leavesOut(in, cluster)
		if why == "" {
			p.selected++
			weights[in.Weights] = true
		}
		if why == ownInstance {
			p.own++
		}
		if in.Address.IsValid() || in.Host == "" {
			p.add(c, in, why)
			continue
		}
		host := strings.ToLower(strings.TrimSuffix(in.Host, ".")) // the form that Kubernetes takes
		p.known[host] = true
		if why == "" && in.Health == service.Passing {
			p.named++
			p.hosts = append(p.hosts, host)
		}
	}
	slices.Sort(p.hosts)
	p.hosts = slices.Compact(p.hosts)
	p.unequal = len(weights) > 1
	return p
}

const ownInstance = "was published from this cluster"

// leavesOut says why an instance is not meant by an import, and is empty if it
// is.
func (c claim) leavesOut(in *Instance, cluster string) string {
	switch {
	case in.Cluster == cluster && !c.in.IncludeOwn:
		return ownInstance
	case !hasAll(in.Tags, c.in.Tags):
		return "does not have the tags"
	}
	return ""
}

// add notes where an instance is reached, and makes endpoints of it unless it
// is left out.
func (p *picture) add(c claim, in *Instance, leftOut string) {
	addresses := addressesOf(in, c.origin.Where)
	if len(addresses) == 0 && leftOut == "" {
		p.unusable++
	}
	state := map[service.Health]State{service.Passing: Ready, service.Warning: Spare}[in.Health]
	why := leftOut
	if why == "" && state != Ready {
		why = "is " + string(in.Health) + " in Consul"
	}
	for _, address := range addresses {
		ports := c.portsAt(in, address.Port())
		p.show(in, address, ports, why)
		if leftOut != "" {
			continue
		}
		if len(ports) == 0 {
			p.portless++
			continue
		}
		p.count(ports)
		if state != "" {
			p.want(address.Addr(), ports, state, in.Zone)
		}
	}
}

// notes say what of the answer could not be made endpoints of.
func (p *picture) notes(kind Type) []string {
	var notes []string
	note := func(n int, what string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf("instances %s: %d", what, n))
		}
	}
	note(p.own, "published from this cluster, and left out")
	if kind == ExternalName {
		note(len(p.wanted), "with an address, which target.type ExternalName cannot show")
		if len(p.hosts) > 1 {
			notes = append(notes, fmt.Sprintf("only one host name of %d can be shown", len(p.hosts)))
		}
		return notes
	}
	note(p.named, "registered by host name, which only target.type ExternalName can show")
	note(p.unusable, "without an address that an endpoint can have")
	note(p.portless, "without the port ("+p.lacks+")")
	if p.unequal {
		notes = append(notes, "the instances' weights differ; Kubernetes gives all the same share")
	}
	return notes
}

// show notes where an instance is reached, whether or not it is an endpoint.
func (p *picture) show(in *Instance, address socket, ports []Port, why string) {
	p.shown[address] = why
	p.shown[netip.AddrPortFrom(address.Addr(), in.Port)] = why
	for _, number := range in.Ports {
		p.shown[netip.AddrPortFrom(address.Addr(), number)] = why
	}
	for _, port := range ports {
		p.shown[netip.AddrPortFrom(address.Addr(), port.Port)] = why
	}
}

func (p *picture) count(ports []Port) {
	for _, port := range ports {
		if p.numbers[port.Name] == nil {
			p.numbers[port.Name] = map[uint16]int{}
		}
		p.numbers[port.Name][port.Port]++
	}
}

// want notes an endpoint. If two instances are reached alike the better counts.
func (p *picture) want(address netip.Addr, ports []Port, state State, zone string) {
	at := place{group{familyOf(address), portsKey(ports)}, address}
	p.ports[at.group.ports] = ports
	if before, seen := p.wanted[at]; !seen || before.State == Spare && state == Ready {
		p.wanted[at] = Endpoint{Address: address, State: state, Zone: zone}
	}
}

// portsAt are the ports of an instance that an import asks for, as they are at
// one of its addresses.
func (c claim) portsAt(in *Instance, main uint16) []Port {
	var ports []Port
	for _, want := range c.in.ports() {
		number := cmp.Or(main, want.Port)
		if want.Consul != "" {
			number = in.Ports[want.Consul]
		}
		if number != 0 {
			ports = append(ports, Port{want.Name, number, want.Protocol})
		}
	}
	return ports
}

// lacks says what instances lack that have none of the ports.
func (in *Import) lacks() string {
	var further []string
	for _, p := range in.ports() {
		if p.Consul == "" {
			return "give target.ports a number"
		}
		further = append(further, strconv.Quote(p.Consul))
	}
	return "none is called " + strings.Join(further, " or ") + ", as a consulPort of target.ports says"
}

// ports are those that an import asks for, with the default.
func (in *Import) ports() []ImportPort {
	ports := slices.Clone(in.Ports)
	if len(ports) == 0 {
		ports = []ImportPort{{}}
	}
	for i := range ports {
		ports[i].Protocol = cmp.Or(ports[i].Protocol, "TCP")
	}
	return ports
}

// addressesOf are an instance's addresses, one of each family at most. That of
// the other family is the one that Consul would give to clients of the same
// datacenter, or of another.
func addressesOf(in *Instance, where Where) []socket {
	v4, v6 := service.TaggedLANIPv4, service.TaggedLANIPv6
	if where.Datacenter != "" {
		v4, v6 = service.TaggedWANIPv4, service.TaggedWANIPv6
	}
	var found []socket
	seen := map[Family]bool{}
	for _, at := range []socket{netip.AddrPortFrom(in.Address, in.Port), in.Tagged[v4], in.Tagged[v6]} {
		address := at.Addr().Unmap().WithZone("")
		if family := familyOf(address); usable(address) && !seen[family] {
			seen[family] = true
			found = append(found, netip.AddrPortFrom(address, cmp.Or(at.Port(), in.Port)))
		}
	}
	return found
}

// usable tells whether Kubernetes takes an address for an endpoint.
func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast()
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// portsKey is the same for the same ports in the same order.
func portsKey(ports []Port) string {
	var key []byte
	for _, p := range ports {
		key = append(key, p.Name...)
		key = append(key, '/')
		key = strconv.AppendUint(key, uint64(p.Port), 10)
		key = append(key, '/')
		key = append(key, p.Protocol...)
		key = append(key, ',')
	}
	return string(key)
}

// servicePorts are the ports of the Service. The number that clients use stays
// what it is once the Service exists.
func (p *picture) servicePorts(c claim, existing []Port) []Port {
	var ports []Port
	for _, want := range c.in.ports() {
		number := want.Port
		if at := slices.IndexFunc(existing, func(e Port) bool { return e.Name == want.Name }); number == 0 && at >= 0 {
			number = existing[at].Port
		}
		if number == 0 && len(existing) == 1 && len(c.in.ports()) == 1 { // it was renamed
			number = existing[0].Port
		}
		if number == 0 {
			number = mostCommon(p.numbers[want.Name])
		}
		if number != 0 {
			ports = append(ports, Port{want.Name, number, want.Protocol})
		}
	}
	return ports
}

// mostCommon is the number that most have, the lowest of several.
func mostCommon(numbers map[uint16]int) uint16 {
	var best uint16
	for _, number := range slices.Sorted(maps.Keys(numbers)) {
		if best == 0 || numbers[number] > numbers[best] {
			best = number
		}
	}
	return best
}

func hasAll(have, want []string) bool {
	return !slices.ContainsFunc(want, func(tag string) bool { return !slices.Contains(have, tag) })
}

// inOrder are instances by node and ID, in whatever order Consul lists them.
func inOrder(instances []Instance) []*Instance {
	sorted := make([]*Instance, len(instances))
	for i := range instances {
		sorted[i] = &instances[i]
	}
	slices.SortFunc(sorted, func(a, b *Instance) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.ID, b.ID))
	})
	return sorted
}
