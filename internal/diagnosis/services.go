package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// ServiceLine is how one Service stands.
type ServiceLine struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	// State is export.Verdict's word.
	State string `json:"state"`
	// Consul is its name in Consul, and Address what stands there of it; both are
	// empty if it is not published.
	Consul  string `json:"consul,omitempty"`
	Address string `json:"address,omitempty"`
	// Instances are asked for, and Passing of them healthy.
	Instances int    `json:"instances"`
	Passing   int    `json:"passing"`
	Reason    string `json:"reason,omitempty"`
	// Wrong is what is wrong with its annotations, and Skipped which endpoints have
	// no instance, and why.
	Wrong   []string       `json:"wrong,omitempty"`
	Skipped []string       `json:"skipped,omitempty"`
	Writes  []ServiceWrite `json:"writes,omitempty"`
	Held    []ServiceHeld  `json:"held,omitempty"`
}

// ServiceWrite is a write that would be made now.
type ServiceWrite struct {
	Kind   string         `json:"kind"`
	ID     string         `json:"id"`
	Consul string         `json:"consul"` // the name in Consul
	Place  string         `json:"place"`
	Health service.Health `json:"health,omitempty"`
	Reason string         `json:"reason"`
}

// ServiceHeld is an entry in Consul that stays though nothing asks for it, or whose
// removal waits for more evidence.
type ServiceHeld struct {
	ID     string `json:"id"`
	Consul string `json:"consul"`
	Place  string `json:"place"`
	Reason string `json:"reason"`
}

// Plain tells whether nothing needs to be said of the Service but how it stands.
func (l ServiceLine) Plain() bool {
	return len(l.Wrong)+len(l.Skipped)+len(l.Writes)+len(l.Held) == 0 && l.State != string(export.Undecided)
}

// Services says of each Service how it stands, in order of namespace and name. What
// is in Consul of Services that are not there is added to the end of their
// namespace's.
func Services(plan export.Plan) []ServiceLine {
	lines := map[export.Object]*ServiceLine{}
	line := func(object export.Object) *ServiceLine {
		l := lines[object]
		if l == nil {
			l = &ServiceLine{Namespace: object.Namespace, Service: object.Name, State: "absent", Reason: "there is no such Service"}
			lines[object] = l
		}
		return l
	}
	for _, result := range plan.Services {
		lines[result.Service] = lineOf(result)
	}
	of := func(in service.Instance) *ServiceLine {
		return line(export.Object{Kind: export.KindService, Namespace: in.Endpoint.Namespace, Name: in.Endpoint.Service})
	}
	for _, op := range plan.Ops {
		l := of(op.Instance)
		l.Writes = append(l.Writes, ServiceWrite{string(op.Kind), op.Instance.ID, op.Instance.Name, placeOf(op.Instance), op.Instance.Health, op.Reason})
	}
	for _, frozen := range plan.Frozen {
		l := of(frozen.Op.Instance)
		l.Held = append(l.Held, ServiceHeld{frozen.Op.Instance.ID, frozen.Op.Instance.Name, placeOf(frozen.Op.Instance), frozen.Reason})
	}
	for _, held := range slices.Concat(plan.Held, plan.Replaced) {
		if own(held) {
			l := of(held.Entry.Instance)
			l.Held = append(l.Held, ServiceHeld{held.Entry.Instance.ID, held.Entry.Instance.Name, placeOf(held.Entry.Instance), held.Reason})
		}
	}
	all := make([]ServiceLine, 0, len(lines))
	for _, l := range lines {
		all = append(all, *l)
	}
	slices.SortFunc(all, func(a, b ServiceLine) int {
		return strings.Compare(a.Namespace+"\x00"+a.Service, b.Namespace+"\x00"+b.Service)
	})
	return all
}

func own(held registration.Held) bool { return held.Entry.Instance.Endpoint.Key != "" }

func lineOf(r export.Result) *ServiceLine {
	l := &ServiceLine{
		Namespace: r.Service.Namespace, Service: r.Service.Name, State: string(r.Verdict), Reason: r.Reason,
		Consul: r.Name, Address: string(r.Address), Instances: len(r.Instances),
	}
	for _, in := range r.Instances {
		if in.Health == service.Passing {
			l.Passing++
		}
	}
	for _, wrong := range r.Errors {
		l.Wrong = append(l.Wrong, wrong.String())
	}
	for _, skipped := range r.Skipped {
		l.Skipped = append(l.Skipped, strings.TrimPrefix(skipped.Key+": "+skipped.Reason, ": "))
	}
	return l
}

// placeOf is where an instance is reached.
func placeOf(in service.Instance) string {
	host := in.Hostname
	if in.Address.IsValid() {
		host = in.Address.String()
		if in.Address.Is6() {
			host = "[" + host + "]"
		}
	}
	return fmt.Sprintf("%s:%d", host, in.Port)
}
