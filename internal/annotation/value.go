package annotation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"fairway.dev/fairway/internal/service"
)

// Limits on what a pod may declare. Those on names are the limits of DNS, in
// which Consul publishes each name as a label (RFC 1035, 2.3.4); Consul itself
// would take a longer one, and then not be able to serve it. Those on meta are
// Consul's own: it refuses the whole registration beyond them.
const (
	maxName      = 63
	maxMetaKey   = 128
	maxMetaValue = 512 // bytes
	maxMetaPairs = 64 - service.MetaOwned

	// maxServices bounds what one pod can cost the node agent and the registry.
	maxServices = 64
)

// splitList splits a list at its commas and trims the items. An empty value is
// an empty list; an empty item is kept for the caller to refuse.
func splitList(value string) []string {
	value = strings.TrimSpace(value)
	if value == "" {
		return nil
	}
	items := strings.Split(value, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

// quote shows a piece of the user's text in a message, shortened if long.
func quote(s string) string {
	const most = 64
	if utf8.RuneCountInString(s) > most {
		return fmt.Sprintf("%.*q...", most, s)
	}
	return strconv.Quote(s)
}

func emptyItem(i int) string {
	return fmt.Sprintf("item %d of the list is empty: remove the extra comma", i+1)
}

func tooManyServices(n int) string {
	return fmt.Sprintf("%d services: a pod may declare at most %d", n, maxServices)
}

// tooManyPairs is the problem with n pairs of meta where Fairway needs so many.
func tooManyPairs(n, needed int) string {
	return fmt.Sprintf("%d pairs: Consul holds %d per service, and Fairway needs %d of them",
		n, maxMetaPairs+service.MetaOwned, needed)
}

// checkName says what is wrong with item i of the list of names, given the
// valid ones before it.
func checkName(i int, name string, before []string) string {
	switch {
	case name == "":
		return emptyItem(i)
	case strings.ContainsFunc(name, func(r rune) bool { return !alphanumeric(r) && r != '-' }):
		return quote(name) + " is not a service name: only letters, digits and '-' can be looked up by DNS"
	case strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-"):
		return quote(name) + " is not a service name: it must begin and end with a letter or digit"
	case len(name) > maxName:
		return fmt.Sprintf("%s is %d characters long: a name in DNS has at most %d", quote(name), len(name), maxName)
	}
	// Consul compares names and ids without regard to case: two names that
	// differ in case only would overwrite each other.
	same := slices.IndexFunc(before, func(other string) bool { return strings.EqualFold(name, other) })
	switch {
	case same < 0:
		return ""
	case before[same] == name:
		return quote(name) + " is listed twice: remove one"
	default:
		return fmt.Sprintf("%s and %s are the same name to Consul, which ignores case: remove one",
			quote(before[same]), quote(name))
	}
}

func alphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// parsePortNumber takes 1 to 65535 in plain digits.
func parsePortNumber(value string) (uint16, bool) {
	n, err := strconv.ParseUint(value, 10, 16)
	return uint16(n), err == nil && n > 0
}

func badPort(value string, named []string) string {
	const right = "a number from 1 to 65535"
	if value == "" {
		return "empty: give " + right + ", or the name of a container port"
	}
	if strings.Trim(value, "0123456789") == "" {
		return quote(value) + " is out of range: give " + right
	}
	names := "the pod names none"
	if len(named) > 0 {
		slices.Sort(named)
		names = "the pod has " + strings.Join(slices.Compact(named), ", ")
	}
	return fmt.Sprintf("%s is neither %s nor the name of a container port (%s)", quote(value), right, names)
}

// parseTags reads a list of tags, in the order that the registry will show.
// Consul puts no limit on a tag; what is refused here could not be read back
// as it was written, or is surely a mistake.
func parseTags(value string) (tags, problems []string) { return checkTags(splitList(value)) }

func checkTags(items []string) (tags, problems []string) {
	for i, tag := range items {
		switch {
		case tag == "":
			problems = append(problems, emptyItem(i))
		case !printable(tag):
			problems = append(problems, quote(tag)+" is not a tag: it must be one line of printable text")
		case slices.Contains(tags, tag):
			problems = append(problems, "tag "+quote(tag)+" is listed twice: remove one")
		default:
			tags = append(tags, tag)
		}
	}
	return tags, problems
}

// defaultWeights are Consul's own.
func defaultWeights() (service.Weights, []string) {
	return service.Weights{Passing: 1, Warning: 1}, nil
}

// parseWeights reads passing:N and warning:N. Consul takes a weight that is not
// given for none at all, so it is sent the default.
func parseWeights(value string) (service.Weights, []string) {
	weights, problems := defaultWeights()
	items := splitList(value)
	if len(items) == 0 {
		problems = append(problems, "empty: write passing:N, warning:N or both, or remove the annotation")
	}
	given := map[string]bool{}
	for i, item := range items {
		key, number, _ := strings.Cut(item, ":")
		key, number = strings.TrimSpace(key), strings.TrimSpace(number)
		n, err := strconv.ParseUint(number, 10, 16)
		switch {
		case item == "":
			problems = append(problems, emptyItem(i))
		case key != "passing" && key != "warning":
			problems = append(problems, quote(item)+" is not a weight: write passing:N or warning:N")
		case given[key]:
			problems = append(problems, "the weight for "+key+" is given twice: remove one")
		case err != nil || key == "passing" && n == 0:
			least := map[string]int{"passing": 1}[key]
			problems = append(problems, fmt.Sprintf("%s is no weight for %s: give a number from %d to 65535", quote(number), key, least))
		case key == "passing":
			weights.Passing = int(n)
		default:
			weights.Warning = int(n)
		}
		given[key] = true
	}
	return weights, problems
}

// parseMeta reads key:value pairs. The first colon separates, so that a value
// can be a URL.
func parseMeta(value string) (meta map[string]string, problems []string) {
	items := splitList(value)
	if len(items) > maxMetaPairs {
		return nil, []string{tooManyPairs(len(items), service.MetaOwned)}
	}
	meta = make(map[string]string, len(items))
	for i, item := range items {
		if item == "" {
			problems = append(problems, emptyItem(i))
			continue
		}
		key, value, ok := strings.Cut(item, ":")
		if !ok {
			problems = append(problems, quote(item)+" has no colon: write key:value")
			continue
		}
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if problem := checkMeta(key, value, meta); problem != "" {
			problems = append(problems, problem)
			continue
		}
		meta[key] = value
	}
	return meta, problems
}

// checkMeta says what is wrong with a pair, given the valid ones before it.
func checkMeta(key, value string, before map[string]string) string {
	_, twice := before[key]
	switch {
	case key == "":
		return "the key before " + quote(":"+value) + " is empty: write key:value"
	case strings.ContainsFunc(key, func(r rune) bool { return !alphanumeric(r) && r != '-' && r != '_' }):
		return "key " + quote(key) + " is refused by Consul: only letters, digits, '-' and '_' are allowed"
	case len(key) > maxMetaKey:
		return fmt.Sprintf("key %s is %d characters long: Consul takes at most %d", quote(key), len(key), maxMetaKey)
	case reserved(key):
		return "key " + quote(key) + " is reserved: keys that begin with fairway-, external- or consul- cannot be set"
	case twice:
		return "key " + quote(key) + " is given twice: remove one"
	case len(value) > maxMetaValue:
		return fmt.Sprintf("the value of %s is %d bytes long: Consul takes at most %d", quote(key), len(value), maxMetaValue)
	case !printable(value):
		return "the value of " + quote(key) + " must be one line of printable text"
	}
	return ""
}

// reserved tells which meta keys are Fairway's own, or Consul's, which refuses
// them.
func reserved(key string) bool {
	return strings.HasPrefix(key, "fairway-") || strings.HasPrefix(key, "external-") || strings.HasPrefix(key, "consul-")
}

// printable tells whether the registry will return s as it was written: what
// is not UTF-8 would come back changed and be "repaired" for ever.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
