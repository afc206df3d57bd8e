package annotation

import (
	"maps"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/service"
)

// fixed reads the annotations that fix the health of services, also of those
// that are not listed: an entry of a service whose name cannot be understood any
// more must not get another health by that.
func (p *parser) fixed() Fixed {
	var fixed Fixed
	for _, key := range slices.Sorted(maps.Keys(p.pod.Annotations)) { // the right spelling comes last, and counts
		rest, ours := strings.CutPrefix(key, p.prefix)
		field, name, known := p.cutField(rest)
		if !ours || !known || field != fieldHealth {
			continue
		}
		if fixed == nil {
			fixed = Fixed{}
		}
		value := p.pod.Annotations[key]
		switch health := service.Health(strings.TrimSpace(value)); health {
		case service.Passing, service.Warning, service.Critical:
			fixed[name] = health
		default:
			fixed[name] = ""
			p.report(key, value, name, quote(string(health))+" is no health: give passing, warning or critical")
		}
	}
	return fixed
}

// excluded are the containers that do not count for health. One that the pod
// does not have is reported, and the others are excluded nevertheless.
func (p *parser) excluded() []string {
	var excluded []string
	for _, field := range []string{fieldExclude, fieldSidecar} {
		key := p.prefix + field
		value, ok := p.pod.Annotations[key]
		if !ok {
			continue
		}
		items := splitList(value)
		if len(items) == 0 {
			p.report(key, value, "", "empty: name a container of the pod, or remove the annotation")
		} else if field == fieldSidecar { // one name, no list
			items = []string{strings.TrimSpace(value)}
		}
		for i, name := range items {
			if problem := p.checkContainer(i, name); problem != "" {
				p.report(key, value, "", problem)
			} else if !slices.Contains(excluded, name) {
				excluded = append(excluded, name)
			}
		}
	}
	return excluded
}

// checkContainer says what is wrong with item i of a list of containers.
func (p *parser) checkContainer(i int, name string) string {
	var names []string
	for _, c := range p.pod.Containers {
		names = append(names, c.Name)
	}
	switch near := nearest(name, names); {
	case name == "":
		return emptyItem(i)
	case len(names) == 0 || slices.Contains(names, name):
		return "" // a pod always has containers: none means that its source does not tell
	case near != "":
		return quote(name) + " is not a container of the pod; did you mean " + near + "?"
	default:
		return quote(name) + " is not a container of the pod, which has " + strings.Join(names, ", ")
	}
}

// checkTTL is the dead-man that the pod asks for, zero if it asks for none, and
// whether that was understood.
func (p *parser) checkTTL() (time.Duration, bool) {
	key := p.prefix + fieldTTL
	value, ok := p.pod.Annotations[key]
	if !ok {
		return 0, true
	}
	ttl, problem := parseDuration(value)
	switch {
	case problem == "" && ttl < MinCheckTTL && p.prefix == Katalog:
		return MinCheckTTL, true
	case problem == "" && ttl < MinCheckTTL:
		problem = quote(strings.TrimSpace(value)) + " is too short: give " + MinCheckTTL.String() + " or more"
	}
	if problem != "" {
		p.report(key, value, "", problem)
		return 0, false
	}
	return ttl, true
}

// checkInterval checks an annotation that only katalog-sync has a use for.
func (p *parser) checkInterval() {
	key := Katalog + fieldInterval
	value, ok := p.pod.Annotations[key]
	if !ok || p.prefix != Katalog {
		return
	}
	if _, problem := parseDuration(value); problem != "" {
		p.report(key, value, "", problem)
	}
}

// parseDuration reads a positive Go duration.
func parseDuration(value string) (time.Duration, string) {
	value = strings.TrimSpace(value)
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, quote(value) + " is not a duration: write one such as 30s or 5m"
	}
	return d, ""
}
