package export

import (
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// serviceClaims are the claims of one Service that is there, by key.
type serviceClaims struct {
	*described
	decision *decision
	result   Result
	claims   map[string]registration.Claim
	places   map[string]place // by key
}

// fromPlaces makes a claim of each place of a Service that is published.
func (s *serviceClaims) fromPlaces() {
	for _, p := range s.result.places {
		claim := s.follow(p.key, p.pod, p.health)
		switch {
		case p.gone != "":
			s.decision.input.Gone[claim.Owner()] = p.gone
		case p.absent != "":
			claim.Incomplete, claim.Withdrawn = false, p.absent
		case p.problem == "":
			claim.Instances, claim.Incomplete = []service.Instance{p.instance}, len(s.result.Errors) > 0
		}
		s.claims[p.key], s.places[p.key] = claim, p
	}
}

// follow is a claim that leaves an entry as it is, but for its health; and for that
// too if it is not known.
func (s *serviceClaims) follow(key string, pod service.PodRef, h health) registration.Claim {
	claim := registration.Claim{
		Pod: pod, Endpoint: service.EndpointRef{Namespace: s.svc.Namespace, Service: s.svc.Name, Key: key},
		Health: h.is, Notes: h.notes, Terminating: h.leaves, Incomplete: true,
	}
	if !h.leaves {
		claim.Fixed = s.declared.Fixed
	}
	if h.unknown {
		claim.Fixed = annotation.Fixed{"": ""}
	}
	return claim
}

// fromEntry sees to an entry of the Service: what is stated has its claim, of which
// perhaps not all is known; what is not stated is gone, held or replaced.
func (s *serviceClaims) fromEntry(entry registration.Entry) {
	s.look()
	key, owner := entry.Instance.Endpoint.Key, entry.Instance.Owner()
	missing := s.missingFor(entry)
	_, stated := s.claims[key]
	switch {
	case stated && len(missing) > 0:
		// One of those who state it is missing, so of what they state together a part.
		p := s.places[key]
		s.claims[key] = s.follow(key, p.pod, s.doubted(p.health, p.shared, missing))
		s.askFor(missing)
	case stated:
	case s.result.Verdict == Unpublished:
		s.claims[key] = s.follow(key, entry.Instance.Pod, health{is: service.Passing})
		s.giveUp(key, nil, s.result.Reason)
	default:
		s.unstated(entry, missing, owner)
	}
}

// unstated decides about an entry at whose key the Service has no place.
func (s *serviceClaims) unstated(entry registration.Entry, missing []Object, owner string) {
	key := entry.Instance.Endpoint.Key
	_, named := parseObjects(entry.Instance.Meta[service.MetaStatedBy])
	h, there := s.healthAt(key)
	_, single := s.endpoints[key]
	h = s.doubted(h, !single, missing)
	switch {
	case there && s.result.Verdict == Undecided:
		s.claims[key] = s.follow(key, entry.Instance.Pod, h)
	case there:
		// It is there, but not what stands in the registry for this Service any more.
		s.claims[key] = s.follow(key, entry.Instance.Pod, h)
		s.giveUp(key, s.successors(), "its address is "+string(s.address)+" now")
	case len(missing) > 0:
		s.decision.held[owner] = "nothing states it any more, but " + missing[0].String() + ", which may, is not on the list and not proven gone"
		s.askFor(missing)
	case !named:
		s.decision.held[owner] = "the entry does not name what has stated its endpoint, so nothing can prove that it is gone"
	case s.ofTheService(key) && len(s.successors()) > 0:
		// The Service has another address of the kind: this one may serve until then.
		s.claims[key] = s.follow(key, entry.Instance.Pod, s.allHealth())
		s.giveUp(key, s.successors(), "its address is "+string(s.address)+" now")
	default:
		s.decision.input.Gone[owner] = s.proof(entry)
	}
}

// ofTheService tells whether a key is not that of an endpoint or node, which end by
// themselves.
func (s *serviceClaims) ofTheService(key string) bool {
	return !slices.ContainsFunc([]string{keyTarget, keyIP, keyName, keyNode}, func(kind string) bool { return strings.HasPrefix(key, kind) })
}

// proof says what proves that nothing states an entry's endpoint any more.
func (s *serviceClaims) proof(entry registration.Entry) string {
	staters, _ := parseObjects(entry.Instance.Meta[service.MetaStatedBy])
	for _, object := range staters {
		if why := s.Gone[object]; why != "" && !s.decision.stated[object] {
			return object.String() + " is gone: " + why
		}
	}
	if node, ok := strings.CutPrefix(entry.Instance.Endpoint.Key, keyNode); ok && s.nodeGone(node) != "" {
		return "node " + node + " is gone: " + s.nodeGone(node)
	}
	return "nothing states it any more"
}

// doubted is a health that is not known if what is missing may hold a better
// endpoint.
func (s *serviceClaims) doubted(h health, shared bool, missing []Object) health {
	if shared && len(missing) > 0 && h.is != service.Passing && s.declared.Fixed[""] == "" {
		return health{is: service.Passing, notes: missing[0].String() + " is missing, and may state endpoints that are ready", unknown: true}
	}
	return h
}

func (s *serviceClaims) askFor(missing []Object) {
	for _, object := range missing {
		s.decision.ask[object] = true
	}
}

// giveUp makes a claim one that does not want its entry any more, but those of
// others in its place.
func (s *serviceClaims) giveUp(key string, successors []service.Instance, why string) {
	claim := s.claims[key]
	claim.Instances, claim.Incomplete, claim.Withdrawn = successors, false, why
	claim.Terminating = false // which would be said of the successors
	s.claims[key] = claim
}

// successors are what the Service wants to be in service.
func (s *serviceClaims) successors() []service.Instance {
	var instances []service.Instance
	for _, p := range s.result.places {
		if p.problem == "" && p.absent == "" && p.gone == "" && !p.health.leaves {
			instances = append(instances, p.instance)
		}
	}
	return instances
}

// missingFor are the objects without which nothing can be said to be stated no
// more: those that have stated the entry's endpoint, and those that may.
func (s *serviceClaims) missingFor(entry registration.Entry) []Object {
	missing := map[Object]bool{}
	staters, _ := parseObjects(entry.Instance.Meta[service.MetaStatedBy])
	for _, object := range staters {
		if !s.decision.stated[object] && s.Gone[object] == "" {
			missing[object] = true
		}
	}
	for _, slice := range s.slices[s.svc.Object()] {
		if slice.Missing {
			missing[slice.Object()] = true
		}
	}
	for _, object := range s.hostless {
		missing[object] = true
	}
	maps.DeleteFunc(missing, func(object Object, _ bool) bool { return s.switchedOff(object) })
	return inOrder(missing)
}

// switchedOff tells whether the operator does not publish what an object states of
// the Service. Nobody looks at such objects, so nothing would ever be heard of one.
func (s *serviceClaims) switchedOff(object Object) bool {
	ingress, route := object.Kind == KindIngress && !s.policy.Ingress, object.Kind == KindHTTPRoute && !s.policy.Gateway
	return (ingress || route) && s.declared.Address != annotation.Hostname
}

// healthAt is the health of an instance at a key, whatever the Service has for its
// address now. It is not there if nothing states the key any more.
func (s *serviceClaims) healthAt(key string) (h health, there bool) {
	if e, ok := s.endpoints[key]; ok {
		return s.fixed(healthOf(e, s.nodeGone(e.node), s.declared.Draining)), true
	}
	if node, ok := strings.CutPrefix(key, keyNode); ok && s.nodeGone(node) == "" {
		return s.nodeHealth(node)
	}
	var keys []string
	switch {
	case key == keyVIP && len(s.svc.ClusterIPs) > 0:
		keys = []string{keyVIP}
	case strings.HasPrefix(key, keyBalancer):
		keys = placeKeys(s.addressPlaces(keyBalancer, s.svc.Balancer))
	case strings.HasPrefix(key, keyExternal):
		keys = placeKeys(s.addressPlaces(keyExternal, balancerAddresses(s.svc.ExternalIPs)))
	case strings.HasPrefix(key, keyHost):
		hosts, _ := s.hostsOf(s.svc, true, true)
		for _, h := range append(hosts, host{name: s.svc.ExternalName}) {
			keys = append(keys, keyHost+h.name)
		}
	}
	return s.allHealth(), slices.Contains(keys, key)
}

func placeKeys(places []place) []string {
	var keys []string
	for _, p := range places {
		keys = append(keys, p.key)
	}
	return keys
}
