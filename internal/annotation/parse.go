package annotation

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
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
	result := Result{Declared: true, Services: names, Fixed: p.fixed(), Excluded: p.excluded()}
	result.Instances = p.instances(names, result.Fixed)
	p.strays(names, rejected)
	result.Errors = p.errors()
	return result
}

// instances are the services of which everything was understood.
func (p *parser) instances(names []string, fixed Fixed) []service.Instance {
	ports := setting(p, names, fieldPort, p.ports, p.defaultPort)
	tags := setting(p, names, fieldTags, parseTags, nil)
	metas := setting(p, names, fieldMeta, parseMeta, nil)
	weights := setting(p, names, fieldWeights, parseWeights, defaultWeights)
	p.checkInterval()
	ttl, usable := p.checkTTL()
	tagged := service.TaggedAddresses(p.pod.Addresses)

	var instances []service.Instance
	for _, name := range names {
		port, portOK := ports[name]
		tag, tagsOK := tags[name]
		meta, metaOK := metas[name]
		weight, weightsOK := weights[name]
		health, isFixed := fixed.For(name)
		if !usable || !portOK || !tagsOK || !metaOK || !weightsOK || isFixed && health == "" {
			continue
		}
		meta, ok := p.withPorts(name, meta, port.further)
		if !ok || len(p.pod.Addresses) == 0 || !p.pod.Addresses[0].IsValid() {
			continue
		}
		instances = append(instances, service.Instance{
			ID:       service.InstanceID(name, p.pod.Ref),
			Name:     name,
			Pod:      p.pod.Ref,
			Address:  p.pod.Addresses[0],
			Port:     port.main,
			Tagged:   maps.Clone(tagged),
			Tags:     slices.Clone(tag),
			Meta:     withOwn(meta, p.pod.Ref),
			Weights:  weight,
			CheckTTL: ttl,
		})
	}
	return instances
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

// withOwn is the meta that was asked for plus Fairway's own keys, which
// parseMeta has kept free.
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
