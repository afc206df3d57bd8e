package diagnosis

import (
	"slices"
	"strings"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// ImportLine is how one ConsulImport stands.
type ImportLine struct {
	Namespace string `json:"namespace"`
	Import    string `json:"import"`
	Ready     bool   `json:"ready"`
	Reason    string `json:"reason"`
	Message   string `json:"message,omitempty"`
	Services  int    `json:"services"`
	Endpoints int    `json:"endpoints"`
	// NotImported, Writes and Held say of services what is not imported, of objects
	// what would be written now, and of Services what stays though Consul does not
	// show it, each with its reason.
	NotImported []string `json:"notImported,omitempty"`
	Writes      []string `json:"writes,omitempty"`
	Held        []string `json:"held,omitempty"`
	// Told is what the controller has told of it, if that is something else: it asks
	// with a token of its own, or nobody decides.
	Told string `json:"told,omitempty"`
}

// Tell takes in the reason and the message that the controller has given the import's
// condition Ready; both are empty if there is none.
func (l *ImportLine) Tell(reason, message string) {
	switch {
	case reason == "":
		l.Told = "nothing of it yet; fairway doctor says how the controllers are"
	case reason != l.Reason:
		l.Told = reason + ": " + message
	}
}

// Plain tells whether nothing needs to be said of the import but how it stands.
func (l ImportLine) Plain() bool {
	return l.Ready && len(l.NotImported)+len(l.Writes)+len(l.Held) == 0 && l.Told == ""
}

// Imports says of each ConsulImport how it stands, in order of namespace and name.
func Imports(plan consulimport.Plan) []ImportLine {
	lines := make([]ImportLine, 0, len(plan.Statuses))
	for _, status := range plan.Statuses {
		l := ImportLine{
			Namespace: status.Import.Namespace, Import: status.Import.Name,
			Services: status.Services, Endpoints: status.Endpoints,
		}
		for _, c := range status.Conditions {
			if c.Type == consulimport.ConditionReady {
				l.Ready, l.Reason, l.Message = c.Status == service.ConditionTrue, c.Reason, c.Message
			}
		}
		for _, n := range status.NotImported {
			l.NotImported = append(l.NotImported, n.Consul+": "+n.Reason+": "+n.Message)
		}
		for _, op := range plan.Ops {
			var object consulimport.Object
			if op.Service != nil {
				object = op.Service.Object
			} else {
				object = op.Slice.Object
			}
			if object.Ref.Namespace == l.Namespace && object.Import == l.Import {
				l.Writes = append(l.Writes, op.String())
			}
		}
		for _, h := range plan.Held {
			if h.Import == status.Import {
				l.Held = append(l.Held, "Service "+h.Service.Name+", "+plural(h.Endpoints, "endpoint", "endpoints")+": "+h.Reason+": "+h.Message)
			}
		}
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b ImportLine) int {
		return strings.Compare(a.Namespace+"\x00"+a.Import, b.Namespace+"\x00"+b.Import)
	})
	return lines
}
