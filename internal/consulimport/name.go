package consulimport

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// Placeholder is what stands for the service's name in an import's template.
const Placeholder = "{service}"

const (
	maxLabel = 63 // of a Service's name, which is a label in DNS (RFC 1035)
	// letterFirst is put before a name that would begin with a digit, which
	// Kubernetes has only lately begun to allow.
	letterFirst = "svc-"
)

// ServiceName is the name of the Service for a service of Consul, or what is
// wrong. A name that is too long is cut and gets a hash of the whole, so that
// two long names remain two.
func ServiceName(template, consul string) (name, problem string) {
	part := label(consul)
	if strings.Trim(part, "-") == "" {
		return "", fmt.Sprintf("%q has no letter or digit that a Service's name could hold: import it alone, with a target.name of its own", consul)
	}
	if template == "" {
		template = Placeholder
	}
	parts := strings.Split(template, Placeholder)
	for i := range parts {
		parts[i] = label(parts[i])
	}
	name = strings.Trim(strings.Join(parts, part), "-")
	if name == "" {
		return "", fmt.Sprintf("target.name %q holds no letter or digit", template)
	}
	if name[0] >= '0' && name[0] <= '9' {
		name = letterFirst + name
	}
	if len(name) > maxLabel {
		hash := fnv.New32a()
		_, _ = hash.Write([]byte(template + "\x00" + consul)) // a hash never fails
		suffix := fmt.Sprintf("-%08x", hash.Sum32())
		name = strings.TrimRight(name[:maxLabel-len(suffix)], "-") + suffix
	}
	return name, ""
}

// label is text in lower case, with a dash for each character that a name in
// DNS cannot hold.
func label(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, text)
}
