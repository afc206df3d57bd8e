package export

import (
	"fmt"
	"strings"
)

// Name is a template of service names, for Services that name none themselves. It
// is text in which {name}, {namespace} and {cluster} stand for the Service's name
// and namespace, and the cluster id. The empty template is "{name}".
type Name string

const (
	partName      = "name"
	partNamespace = "namespace"
	partCluster   = "cluster"
)

// Validate says what is wrong with the template.
func (n Name) Validate() error {
	named := n == ""
	_, err := n.expand(func(part string) string {
		named = named || part == partName
		return ""
	})
	if err == nil && !named {
		err = fmt.Errorf("name template %q: without {name} all Services would have one name", string(n))
	}
	return err
}

// of is the name of a Service.
func (n Name) of(cluster string, svc Service) string {
	if n == "" {
		return svc.Name
	}
	name, err := n.expand(func(part string) string {
		return map[string]string{partName: svc.Name, partNamespace: svc.Namespace, partCluster: cluster}[part]
	})
	if err != nil { // Validate has said so
		return ""
	}
	return name
}

// expand puts something in the place of each part.
func (n Name) expand(value func(part string) string) (string, error) {
	var out strings.Builder
	for rest := string(n); rest != ""; {
		before, after, found := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return "", fmt.Errorf("name template %q: a } without its {", string(n))
		}
		out.WriteString(before)
		if !found {
			break
		}
		part, remains, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return "", fmt.Errorf("name template %q: a { without its }", string(n))
		case part != partName && part != partNamespace && part != partCluster:
			return "", fmt.Errorf("name template %q: {%s} stands for nothing; there are {name}, {namespace} and {cluster}", string(n), part)
		}
		out.WriteString(value(part))
		rest = remains
	}
	return out.String(), nil
}
