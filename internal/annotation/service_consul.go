package annotation

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// consulFields are the annotations of Consul's catalog sync, but for those of the
// meta.
func consulFields() []string {
	return []string{fieldSync, fieldName, fieldPort, fieldTags, fieldWeight}
}

// inConsulsDialect tells whether the Service is to be read as Consul's sync does.
func (p *serviceParser) inConsulsDialect() bool {
	for _, field := range []string{fieldSync, fieldName} {
		if _, native := p.annotations[Native+field]; native {
			return false
		}
	}
	for key := range p.annotations {
		if field, ok := strings.CutPrefix(key, Consul); ok &&
			(slices.Contains(consulFields(), field) || strings.HasPrefix(field, fieldMetaKey)) {
			return true
		}
	}
	return false
}

// consul reads the annotations of Consul's catalog sync.
func (p *serviceParser) consul() {
	p.readPort(Consul+fieldPort, p.consulPort)
	for _, key := range slices.Sorted(maps.Keys(p.annotations)) {
		if field, native := strings.CutPrefix(key, Native); native && (slices.Contains(nativeFields(), field) || unknownServiceKey(field) != "") {
			p.complain(key, "has no effect: the Service is described under "+Consul+", and one dialect counts; "+
				"move all of it to "+Native+", beginning with "+fieldSync)
		}
		field, ours := strings.CutPrefix(key, Consul)
		if !ours {
			continue
		}
		value := strings.TrimSpace(p.annotations[key])
		var problems []string
		switch {
		case field == fieldSync:
			p.out.Sync, problems = parseConsulSync(value)
		case field == fieldName:
			p.out.Name, problems = value, nonEmpty(checkConsulName(value))
		case field == fieldPort: // done
		case field == fieldTags:
			p.out.Tags, problems = checkTags(splitEscaped(value))
		case field == fieldWeight:
			problems = p.consulWeight(value)
		case strings.HasPrefix(field, fieldMetaKey):
			problems = p.consulMeta(strings.TrimPrefix(field, fieldMetaKey), value)
		default:
			if near := nearest(field, append(consulFields(), fieldMetaKey)); near == fieldMetaKey {
				p.complain(key, "no such annotation; did you mean "+Consul+fieldMetaKey+"KEY?")
			} else if near != "" {
				p.complain(key, "no such annotation; did you mean "+Consul+near+"?")
			}
		}
		p.refuse(key, problems...)
	}
}

// consulPort takes the name of a port of the Service, or any number, which stands
// in Consul as it is.
func (p *serviceParser) consulPort(value string) []string {
	if number, ok := parsePortNumber(value); ok {
		p.defaultPorts()
		p.out.Further = slices.DeleteFunc(p.out.Further, func(port service.Port) bool { return port.Port == number })
		p.out.Port, p.out.Literal = service.Port{Port: number}, true
		return nil
	}
	at := p.find(value)
	if at < 0 {
		return []string{p.badPort(value)}
	}
	p.setPorts(at)
	return nil
}

func parseConsulSync(value string) (*bool, []string) {
	sync, err := strconv.ParseBool(value)
	if err != nil {
		return nil, []string{quote(value) + " is neither true nor false"}
	}
	return &sync, nil
}

// checkConsulName takes the names that Consul takes, also those that cannot be
// looked up by DNS: they stand in catalogs already.
func checkConsulName(name string) string {
	const longest = 255
	switch {
	case name == "":
		return "empty: give a service name, or remove the annotation"
	case len(name) > longest:
		return fmt.Sprintf("%s is %d characters long: Consul's sync takes at most %d", quote(name), len(name), longest)
	case strings.ContainsFunc(name, func(r rune) bool { return !alphanumeric(r) && !strings.ContainsRune("-_.", r) }):
		return quote(name) + " is not a service name: only letters, digits, '-', '_' and '.' are allowed"
	}
	return ""
}

// consulWeight is for instances that pass. Those with a warning have Consul's
// default, because Consul takes a weight that is not given for none at all.
func (p *serviceParser) consulWeight(value string) []string {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return []string{quote(value) + " is no weight: give a number from 1 to 65535"}
	}
	p.out.Weights.Passing = int(n)
	return nil
}

func (p *serviceParser) consulMeta(key, value string) []string {
	if problem := checkMeta(key, value, nil); problem != "" {
		return []string{problem}
	}
	if p.out.Meta == nil {
		p.out.Meta = map[string]string{}
	}
	p.out.Meta[key] = value
	return nil
}

// splitEscaped splits a list at those commas that no backslash stands before, and
// trims the items. A backslash before anything else is just one.
func splitEscaped(value string) []string {
	if strings.TrimSpace(value) == "" {
		return nil
	}
	var items []string
	var item strings.Builder
	for i := 0; i < len(value); i++ {
		switch {
		case value[i] == '\\' && i+1 < len(value) && value[i+1] == ',':
			i++
			item.WriteByte(',')
		case value[i] == ',':
			items = append(items, strings.TrimSpace(item.String()))
			item.Reset()
		default:
			item.WriteByte(value[i])
		}
	}
	return append(items, strings.TrimSpace(item.String()))
}

// portNames are the ports of a Service as a person knows them.
func portNames(ports []service.Port) []string {
	var names []string
	for _, port := range ports {
		if port.Name == "" {
			names = append(names, strconv.Itoa(int(port.Port)))
		} else {
			names = append(names, fmt.Sprintf("%s (%d)", port.Name, port.Port))
		}
	}
	return names
}
