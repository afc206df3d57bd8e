package annotation

import (
	"maps"
	"slices"
	"strings"
)

// The annotations, without their prefix.
const (
	fieldPort    = "service-port"
	fieldTags    = "service-tags"
	fieldMeta    = "service-meta"
	fieldHealth  = "service-health"
	fieldWeights = "service-weights"

	fieldTTL     = "service-check-ttl"
	fieldExclude = "container-exclude"
	fieldSidecar = "sidecar"

	// What only katalog-sync has: an annotation, and the spelling of another in
	// its documentation.
	fieldInterval  = "sync-interval"
	misspeltHealth = "serivce-health-"
)

// serviceFields describe a service: each can be given for one alone.
func serviceFields() []string {
	return []string{fieldPort, fieldTags, fieldMeta, fieldHealth, fieldWeights}
}

// podFields describe the pod.
func podFields() []string { return []string{fieldTTL, fieldExclude, fieldSidecar} }

// strayNatives reports annotations under Fairway's prefix that describe
// services, on a pod that does not opt in under that prefix.
func (p *parser) strayNatives() {
	for _, key := range slices.Sorted(maps.Keys(p.pod.Annotations)) {
		rest, native := strings.CutPrefix(key, Native)
		if !native {
			continue
		}
		problem := unknownKey(rest, nil)
		if _, _, known := cutField(rest); known {
			problem = "has no effect: " + Native + Names + " is missing, which lists the services to publish"
		}
		if problem != "" {
			p.report(key, p.pod.Annotations[key], "", problem)
		}
	}
}

// strays reports annotations of the pod's dialect that belong to none of its
// services. They make no service unusable.
func (p *parser) strays(names, rejected []string) {
	for _, key := range slices.Sorted(maps.Keys(p.pod.Annotations)) {
		rest, ours := strings.CutPrefix(key, p.prefix)
		if !ours || rest == Names {
			continue
		}
		field, name, known := p.cutField(rest)
		switch {
		case known && (name == "" || slices.Contains(names, name) || slices.Contains(rejected, name)):
			// Used, or reported already with the name.
		case known:
			problem := quote(name) + " is not in " + p.prefix + Names
			if near := nearest(name, names); near != "" {
				problem += "; did you mean " + p.prefix + field + "-" + near + "?"
			} else {
				problem += ": add it there, or remove this annotation"
			}
			p.report(key, p.pod.Annotations[key], name, problem)
		case p.prefix == Native:
			if problem := unknownKey(rest, names); problem != "" {
				p.report(key, p.pod.Annotations[key], "", problem)
			}
		}
	}
}

// cutField takes a key of the pod's dialect, without its prefix, apart.
func (p *parser) cutField(rest string) (field, name string, known bool) {
	if p.prefix == Katalog {
		if rest == fieldInterval {
			return fieldInterval, "", true
		}
		if name, ok := strings.CutPrefix(rest, misspeltHealth); ok {
			rest = fieldHealth + "-" + name
		}
	}
	return cutField(rest)
}

// cutField takes a key without its prefix apart: which annotation it is, and
// for which service. name is empty if it is for all.
func cutField(rest string) (field, name string, known bool) {
	if slices.Contains(podFields(), rest) {
		return rest, "", true
	}
	for _, field := range serviceFields() {
		if rest == field {
			return field, "", true
		}
		if name, ok := strings.CutPrefix(rest, field+"-"); ok && name != "" {
			return field, name, true
		}
	}
	return "", "", false
}

// unknownKey says what is wrong with a native key that is not known, and is
// empty if the key has nothing to do with services.
func unknownKey(rest string, names []string) string {
	near := nearest(rest, slices.Concat([]string{Names}, serviceFields(), podFields()))
	if near == "" { // perhaps an override, such as service-tag-web
		for _, name := range names {
			base, ok := strings.CutSuffix(rest, "-"+name)
			if field := nearest(base, serviceFields()); ok && field != "" {
				near = field + "-" + name
				break
			}
		}
	}
	switch {
	case near != "":
		return "no such annotation; did you mean " + Native + near + "?"
	case strings.HasPrefix(rest, "service-"):
		return "no such annotation; there are " + strings.Join(serviceFields(), ", ") +
			", each also with -NAME appended for one service, and " + Names + ", " + strings.Join(podFields(), ", ")
	default:
		return ""
	}
}

// nearest is the candidate that word was most likely meant to be, the first
// one if several are equally near, empty if none is near.
func nearest(word string, candidates []string) string {
	const far = 3
	best, least := "", far
	for _, candidate := range candidates {
		if d := distance(word, candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete or replace to make b of a
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
