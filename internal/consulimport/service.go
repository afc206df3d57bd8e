package consulimport

import (
	"fmt"
	"maps"
	"slices"
)

// service is the Service as it should be, or why there can be none yet.
func (v *verdict) service() (Service, *NotImported) {
	if v.existing == nil {
		if problem := v.impossible(); problem.Reason != "" {
			return Service{}, &problem
		}
		want := Service{Object: v.object(Object{Ref: v.ref}, false), Type: v.kind, Labels: v.in.Labels, Annotations: v.in.Annotations}
		if v.kind == ExternalName {
			want.ExternalName = v.picture.hosts[0]
		} else {
			want.Ports = v.picture.servicePorts(v.claim, nil)
		}
		return want, nil
	}
	want := *v.existing
	want.Object = v.object(want.Object, v.kept[at{}])
	want.Labels, want.Annotations = v.in.Labels, v.in.Annotations
	if v.kind == ExternalName {
		want.ExternalName = v.hostName()
	} else if ports := v.picture.servicePorts(v.claim, want.Ports); len(ports) > 0 {
		want.Ports = ports
	}
	return want, nil
}

// impossible says why no Service can be made of what Consul has. It has no
// reason if one can.
func (v *verdict) impossible() NotImported {
	no := func(reason, message string) NotImported { return NotImported{v.origin.Name, reason, message} }
	switch {
	case len(v.answer.Instances) == 0:
		return no(ReasonNotInConsul, "Consul has nothing of the service")
	case v.picture.own > 0 && v.picture.selected == 0:
		return no(ReasonOwn, "all instances were published from this cluster; source.includeOwn imports them")
	case v.picture.selected == 0:
		return no(ReasonNothingSelected, "no instance has the tags")
	case v.kind == ExternalName && len(v.picture.hosts) == 0:
		return no(ReasonNoHostName, "no passing instance is registered by host name")
	case v.kind == ExternalName || len(v.picture.servicePorts(v.claim, nil)) > 0:
		return NotImported{}
	case v.picture.portless > 0:
		return no(ReasonNoPort, "no instance has the port: "+v.picture.lacks)
	}
	return no(ReasonNoAddress, "no instance has an address that an endpoint can have")
}

// hostName is the one that an existing Service leads to. It changes only if
// Consul shows that it is not to be used any more, and another is.
func (v *verdict) hostName() string {
	now := v.existing.ExternalName
	hosts := v.picture.hosts
	if len(hosts) == 0 || slices.Contains(hosts, now) || len(v.kept) > 0 {
		return now
	}
	return hosts[0]
}

// outdated says what of an existing Service is not as it should be.
func (v *verdict) outdated(want Service) []string {
	if v.existing == nil {
		return nil
	}
	diff := differences(v.existing.Object, want.Object)
	if !slices.Equal(v.existing.Ports, want.Ports) {
		diff = append(diff, "ports change")
	}
	if v.existing.ExternalName != want.ExternalName {
		diff = append(diff, fmt.Sprintf("host name changes from %q to %q", v.existing.ExternalName, want.ExternalName))
	}
	if !maps.Equal(v.existing.Labels, want.Labels) {
		diff = append(diff, "labels change")
	}
	if !maps.Equal(v.existing.Annotations, want.Annotations) {
		diff = append(diff, "annotations change")
	}
	return diff
}
