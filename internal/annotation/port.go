package annotation

import (
	"maps"
	"slices"
	"strconv"

	"fairway.dev/fairway/internal/service"
)

// portMeta and the name of a port make the meta key under which clients find it
// if it is not the instance's main port. Consul's own sync uses the same.
const portMeta = "port-"

// ports are the ports of a service.
type ports struct {
	main    uint16
	further []service.ContainerPort
}

// ports reads a port annotation: the main port, and perhaps more, by name.
func (p *parser) ports(value string) (ports, []string) {
	items := splitList(value)
	if len(items) == 0 {
		return ports{}, []string{badPort("", nil)}
	}
	var (
		read     ports
		problems []string
	)
	for i, item := range items {
		port, problem := p.port(item)
		_, isNumber := parsePortNumber(item)
		switch {
		case item == "" && len(items) > 1:
			problems = append(problems, emptyItem(i))
		case problem != "":
			problems = append(problems, problem)
		case slices.Index(items, item) < i:
			problems = append(problems, "port "+quote(item)+" is listed twice: remove one")
		case i == 0:
			read.main = port
		case isNumber:
			problems = append(problems, quote(item)+" has no name: ports after the first must be names of container ports")
		default:
			read.further = append(read.further, service.ContainerPort{Name: item, Port: port})
		}
	}
	return read, problems
}

// port reads one port: a number, or the name of a container port. If several
// containers give a port the same name the first one is meant, as in a
// Kubernetes Service.
func (p *parser) port(value string) (uint16, string) {
	if port, ok := parsePortNumber(value); ok {
		return port, ""
	}
	var named []string
	for _, c := range p.pod.Ports {
		if c.Name == "" || c.Port == 0 {
			continue
		}
		if c.Name == value {
			return c.Port, ""
		}
		named = append(named, c.Name)
	}
	return 0, badPort(value, named)
}

// defaultPort is the port of services that have no port annotation.
func (p *parser) defaultPort() (ports, []string) {
	for _, c := range p.pod.Ports {
		if c.Protocol == "TCP" && c.Port != 0 {
			return ports{main: c.Port}, nil
		}
	}
	return ports{}, []string{"missing, and the pod declares no TCP container port to take instead: set it to a port number"}
}

// withPorts is the user's meta plus the ports that are not the main one. What
// does not go together is reported at the port annotation.
func (p *parser) withPorts(name string, user map[string]string, further []service.ContainerPort) (map[string]string, bool) {
	if len(further) == 0 {
		return user, true
	}
	key := p.prefix + fieldPort
	if _, ok := p.pod.Annotations[key+"-"+name]; ok {
		key += "-" + name
	}
	if n := len(user) + len(further); n > maxMetaPairs {
		p.report(key, p.pod.Annotations[key], name, tooManyPairs(n, service.MetaOwned))
		return nil, false
	}
	meta := maps.Clone(user)
	if meta == nil {
		meta = map[string]string{}
	}
	usable := true
	for _, port := range further {
		if _, taken := meta[portMeta+port.Name]; taken {
			p.report(key, p.pod.Annotations[key], name, "port "+quote(port.Name)+" is to stand in the meta as "+
				quote(portMeta+port.Name)+", which "+fieldMeta+" sets too: remove one")
			usable = false
		}
		meta[portMeta+port.Name] = strconv.Itoa(int(port.Port))
	}
	return meta, usable
}
