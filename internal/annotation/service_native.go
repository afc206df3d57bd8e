package annotation

import (
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// nativeFields are Fairway's annotations for Services.
func nativeFields() []string {
	return []string{fieldSync, fieldName, fieldPort, fieldTags, fieldMeta, fieldWeights, fieldHealth, fieldDraining, fieldAddress}
}

// native reads Fairway's own dialect.
func (p *serviceParser) native() {
	p.readPort(Native+fieldPort, p.nativePorts)
	for _, key := range slices.Sorted(maps.Keys(p.annotations)) {
		field, ours := strings.CutPrefix(key, Native)
		if !ours {
			continue
		}
		value := strings.TrimSpace(p.annotations[key])
		var problems []string
		switch field {
		case fieldSync:
			p.out.Sync, problems = parseSync(value)
		case fieldName:
			p.out.Name, problems = value, nonEmpty(checkServiceName(value))
		case fieldPort: // done
		case fieldTags:
			p.out.Tags, problems = parseTags(value)
		case fieldMeta:
			p.out.Meta, problems = parseMeta(value)
		case fieldWeights:
			p.out.Weights, problems = parseWeights(value)
		case fieldHealth:
			problems = p.fix(service.Health(value))
		case fieldDraining:
			p.out.Draining, problems = parseDraining(value)
		case fieldAddress:
			p.out.Address, problems = parseAddress(value)
		default:
			if problem := unknownServiceKey(field); problem != "" {
				p.complain(key, problem)
			}
		}
		p.refuse(key, problems...)
	}
	if p.out.Sync == nil && p.annotations[Native+fieldName] != "" { // as a pod that names its services
		yes := true
		p.out.Sync = &yes
	}
}

// readPort reads the port annotation if there is one.
func (p *serviceParser) readPort(key string, read func(string) []string) {
	value, ok := p.annotations[key]
	if !ok {
		p.defaultPorts()
		return
	}
	p.refuse(key, read(strings.TrimSpace(value))...)
}

// nativePorts reads ports of the Service: the main one by name or number, and
// perhaps more by name.
func (p *serviceParser) nativePorts(value string) (problems []string) {
	items := splitList(value)
	if len(items) == 0 {
		return []string{p.badPort("")}
	}
	for i, item := range items {
		at := p.find(item)
		number, isNumber := parsePortNumber(item)
		switch {
		case item == "" && len(items) > 1:
			problems = append(problems, emptyItem(i))
		case slices.Index(items, item) < i:
			problems = append(problems, "port "+quote(item)+" is listed twice: remove one")
		case i == 0 && at < 0 && isNumber && len(p.ports) == 0:
			p.out.Port, p.out.Literal = service.Port{Port: number}, true
		case at < 0:
			problems = append(problems, p.badPort(item))
		case i == 0:
			p.out.Port = p.ports[at]
		case p.ports[at].Name == "" || isNumber:
			problems = append(problems, quote(item)+" is no name: ports after the first must be names of ports of the Service")
		default:
			p.out.Further = append(p.out.Further, p.ports[at])
		}
	}
	return problems
}

// find is the index of a port of the Service that is named or numbered so, -1 if
// there is none. Of two with one number the first is meant.
func (p *serviceParser) find(item string) int {
	number, isNumber := parsePortNumber(item)
	return slices.IndexFunc(p.ports, func(port service.Port) bool {
		return port.Name != "" && port.Name == item || isNumber && port.Port == number
	})
}

func (p *serviceParser) badPort(item string) string {
	if len(p.ports) == 0 {
		if item == "" {
			return "empty: give a number from 1 to 65535"
		}
		return quote(item) + " is no number from 1 to 65535, and the Service has no ports to choose from"
	}
	has := "the Service has " + strings.Join(portNames(p.ports), ", ")
	if item == "" {
		return "empty: name a port; " + has
	}
	return quote(item) + " is not a port of the Service, by name or number; " + has
}

// parseSync takes true or false, and nothing else.
func parseSync(value string) (*bool, []string) {
	switch value {
	case "true", "false":
		sync := value == "true"
		return &sync, nil
	default:
		return nil, []string{quote(value) + " is neither true nor false"}
	}
}

func checkServiceName(name string) string {
	if name == "" {
		return "empty: give a service name, or remove the annotation"
	}
	return checkName(0, name, nil)
}

// fix reads a health that does not follow the endpoints.
func (p *serviceParser) fix(health service.Health) []string {
	switch health {
	case service.Passing, service.Warning, service.Critical:
		p.out.Fixed = Fixed{"": health}
		return nil
	default:
		p.out.Fixed = Fixed{"": ""}
		return []string{quote(string(health)) + " is no health: give passing, warning or critical"}
	}
}

// parseDraining reads the health of endpoints that terminate and still serve.
func parseDraining(value string) (service.Health, []string) {
	switch health := service.Health(value); health {
	case service.Warning, service.Critical:
		return health, nil
	default:
		return service.Critical, []string{quote(value) + " is not for endpoints that are about to end: give critical or warning"}
	}
}

func parseAddress(value string) (Address, []string) {
	known := []string{string(Endpoints), string(VIP), string(Node), string(LoadBalancer), string(Hostname)}
	if slices.Contains(known, value) {
		return Address(value), nil
	}
	problem := quote(value) + " is no kind of address: there are " + strings.Join(known, ", ")
	if near := nearest(value, known); near != "" {
		problem = quote(value) + " is no kind of address; did you mean " + near + "?"
	}
	return "", []string{problem}
}

// unknownServiceKey says what is wrong with a native key that is not known on
// Services, and is empty if it has nothing to do with them.
func unknownServiceKey(field string) string {
	if near := nearest(field, nativeFields()); near != "" {
		return "no such annotation on a Service; did you mean " + Native + near + "?"
	}
	if strings.HasPrefix(field, "service-") {
		return "no such annotation on a Service; there are " + strings.Join(nativeFields(), ", ")
	}
	return ""
}

func nonEmpty(problem string) []string {
	if problem == "" {
		return nil
	}
	return []string{problem}
}
