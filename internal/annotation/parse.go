package annotation

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// The annotations that describe a service, without their prefix.
const (
	fieldPort = "service-port"
	fieldTags = "service-tags"
	fieldMeta = "service-meta"
)

// Parse reads the annotations of pod. It always gives the same answer for the
// same pod.
func Parse(pod service.Pod) Result {
	prefix := dialect(pod.Annotations)
	p := parser{pod: pod, prefix: prefix}
	if prefix != Native {
		p.strayNatives()
	}
	if prefix == "" {
		return Result{Errors: p.errors()}
	}

	names, rejected := p.names()
	ports := setting(&p, names, fieldPort, p.port, p.defaultPort)
	tags := setting(&p, names, fieldTags, parseTags, nil)
	metas := setting(&p, names, fieldMeta, parseMeta, nil)
	p.strays(names, rejected)

	result := Result{Declared: true, Services: names, Errors: p.errors()}
	if len(pod.Addresses) == 0 || !pod.Addresses[0].IsValid() {
		return result
	}
	for _, name := range names {
		port, portOK := ports[name]
		tag, tagsOK := tags[name]
		meta, metaOK := metas[name]
		if !portOK || !tagsOK || !metaOK {
			continue
		}
		result.Instances = append(result.Instances, service.Instance{
			ID:      service.InstanceID(name, pod.Ref),
			Name:    name,
			Pod:     pod.Ref,
			Address: pod.Addresses[0],
			Port:    port,
			Tags:    slices.Clone(tag),
			Meta:    withOwn(meta, pod.Ref),
		})
	}
	return result
}

// dialect is the prefix under which the pod opts in, empty if it does not.
func dialect(annotations map[string]string) string {
	for _, prefix := range []string{Native, Katalog} {
		if _, ok := annotations[prefix+Names]; ok {
			return prefix
		}
	}
	return ""
}

// withOwn is the user's meta plus Fairway's own keys, which parseMeta has kept
// free.
func withOwn(user map[string]string, pod service.PodRef) map[string]string {
	meta := make(map[string]string, len(user)+service.MetaOwned)
	maps.Copy(meta, user)
	meta[service.MetaSource] = "kubernetes"
	meta[service.MetaNamespace] = pod.Namespace
	meta[service.MetaPod] = pod.Name
	meta[service.MetaPodUID] = pod.UID
	return meta
}

// parser reads one pod in one dialect and collects what is wrong.
type parser struct {
	pod    service.Pod
	prefix string
	found  []Error
}

func (p *parser) report(key, value, service, problem string) {
	p.found = append(p.found, Error{Key: key, Value: value, Service: service, Problem: problem})
}

// errors puts in order by key what was found; within a key it was found in
// the order of the value.
func (p *parser) errors() []Error {
	slices.SortStableFunc(p.found, func(a, b Error) int { return cmp.Compare(a.Key, b.Key) })
	return p.found
}

// names returns the valid names of the opt-in annotation in their order, and
// the items that were reported as invalid.
func (p *parser) names() (names, rejected []string) {
	key := p.prefix + Names
	value := p.pod.Annotations[key]
	items := splitList(value)
	switch {
	case len(items) == 0:
		p.report(key, value, "", "empty: name at least one service, or remove the annotation")
		return nil, nil
	case len(items) > maxServices:
		p.report(key, value, "", tooManyServices(len(items)))
		return nil, items
	}
	for i, name := range items {
		if problem := checkName(i, name, names); problem != "" {
			p.report(key, value, name, problem)
			rejected = append(rejected, name)
			continue
		}
		names = append(names, name)
	}
	return names, rejected
}

// port reads a port annotation: a number, or the name of a container port. If
// several containers give a port the same name the first one is meant, as in a
// Kubernetes Service.
func (p *parser) port(value string) (uint16, []string) {
	if port, ok := parsePortNumber(value); ok {
		return port, nil
	}
	var named []string
	for _, c := range p.pod.Ports {
		if c.Name == "" || c.Port == 0 {
			continue
		}
		if c.Name == value {
			return c.Port, nil
		}
		named = append(named, c.Name)
	}
	return 0, []string{badPort(value, named)}
}

// defaultPort is the port of services that have no port annotation.
func (p *parser) defaultPort() (uint16, []string) {
	for _, c := range p.pod.Ports {
		if c.Protocol == "TCP" && c.Port != 0 {
			return c.Port, nil
		}
	}
	return 0, []string{"missing, and the pod declares no TCP container port to take instead: set it to a port number"}
}

// setting resolves one annotation for each service: the service's override if
// there is one, else what all services share, else the fallback (nil: the zero
// value). Services for which that could not be understood are left out. A
// shared value is checked even if every service overrides it.
func setting[T any](
	p *parser, names []string, field string,
	parse func(string) (T, []string), fallback func() (T, []string),
) map[string]T {
	sharedKey := p.prefix + field
	overridden := func(name string) bool {
		_, ok := p.pod.Annotations[sharedKey+"-"+name]
		return ok
	}
	read := func(key, name string) (T, bool) {
		raw := p.pod.Annotations[key]
		value, problems := parse(strings.TrimSpace(raw))
		for _, problem := range problems {
			p.report(key, raw, name, problem)
		}
		return value, len(problems) == 0
	}

	var shared T
	sharedOK := true
	if _, ok := p.pod.Annotations[sharedKey]; ok {
		shared, sharedOK = read(sharedKey, "")
	} else if fallback != nil && !all(names, overridden) {
		var problems []string
		shared, problems = fallback()
		for _, problem := range problems {
			p.report(sharedKey, "", "", problem)
		}
		sharedOK = len(problems) == 0
	}

	values := make(map[string]T, len(names))
	for _, name := range names {
		value, ok := shared, sharedOK
		if overridden(name) {
			value, ok = read(sharedKey+"-"+name, name)
		}
		if ok {
			values[name] = value
		}
	}
	return values
}

func all(names []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !ok(name) })
}
