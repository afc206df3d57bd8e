package consulimport

import (
	"fmt"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// The conditions of an import.
const (
	ConditionReady        = "Ready"
	ConditionSourceKnown  = "SourceKnown"
	ConditionRemovalsHeld = "RemovalsHeld"
)

// Why a condition is as it is, and why a service is not imported.
const (
	// Ready.
	ReasonImported       = "Imported"
	ReasonInvalidSpec    = "InvalidSpec"
	ReasonNotAllImported = "NotAllImported"
	ReasonNothingFound   = "NothingFound"

	// SourceKnown, and Ready if it is not.
	ReasonAnswered      = "Answered"
	ReasonSourceUnknown = "SourceUnknown"

	// RemovalsHeld.
	ReasonNothingHeld   = "NothingHeld"
	ReasonNotConfirmed  = "NotConfirmed"
	ReasonIndexWentBack = "IndexWentBack"
	ReasonFrozen        = "Frozen"

	// A service that is not imported.
	ReasonNoName          = "NoName"
	ReasonNameTaken       = "NameTaken"
	ReasonNotInConsul     = "NotInConsul"
	ReasonNothingSelected = "NothingSelected"
	ReasonOwn             = "PublishedFromHere"
	ReasonNoAddress       = "NoAddress"
	ReasonNoPort          = "NoPort"
	ReasonNoHostName      = "NoHostName"
	ReasonWriteRefused    = "WriteRefused"
)

// Bounds of a status, so that an import of everything still fits into an object.
const (
	maxImported    = 100
	maxNotImported = 50
	maxMessage     = 1000
)

// Status is what an import's status should say. It holds no time that passes, so
// that it changes only if something has.
type Status struct {
	Import Ref
	// Pending is true until Consul was asked for all that the import needs. Until
	// then a status that was written before says more than this one.
	Pending     bool
	Conditions  []Condition
	Services    int
	Endpoints   int
	Imported    []Imported
	NotImported []NotImported
}

// Condition is one of the conditions of an import.
type Condition struct {
	Type    string
	Status  service.ConditionStatus
	Reason  string
	Message string
}

// Imported is a Service that stands for a service of Consul.
type Imported struct {
	Name      string
	Consul    string
	Endpoints int // that are ready
	Message   string
}

// NotImported is a service of Consul that should be a Service and is not.
type NotImported struct {
	Consul  string
	Reason  string
	Message string
}

func (d *decision) deny(v *verdict, problem NotImported) {
	d.denied[v.in.Ref] = append(d.denied[v.in.Ref], problem)
}

func (d *decision) report(v *verdict, ready int, message string) {
	d.imported[v.in.Ref] = append(d.imported[v.in.Ref], Imported{v.ref.Name, v.origin.Name, ready, cut(message)})
}

// reportImported says how a Service stands that is as Consul has it.
func (d *decision) reportImported(v *verdict, ready int) {
	refused := d.Refused[v.ref]
	if refused != "" && v.existing == nil {
		d.deny(v, NotImported{v.origin.Name, ReasonWriteRefused, refused})
		return
	}
	var messages []string
	if refused != "" {
		messages = append(messages, "the last write was refused: "+refused)
	}
	if v.held != "" {
		messages = append(messages, v.held)
	}
	if asked := v.in.kind(); v.kind != asked {
		messages = append(messages, fmt.Sprintf("the Service is of type %s: delete it, and it is made anew as %s", v.kind, asked))
	}
	d.report(v, ready, strings.Join(append(messages, v.picture.notes(v.kind)...), "; "))
}

// status is what is said of an import.
func (d *decision) status(in *Import) Status {
	s := Status{Import: in.Ref, Imported: d.imported[in.Ref], NotImported: d.denied[in.Ref]}
	slices.SortFunc(s.Imported, func(a, b Imported) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.NotImported, func(a, b NotImported) int { return strings.Compare(a.Consul, b.Consul) })
	s.Services = len(s.Imported)
	for _, i := range s.Imported {
		s.Endpoints += i.Endpoints
	}
	known, pending := d.sourceKnown(in)
	s.Pending = pending
	s.Conditions = []Condition{d.ready(in, s, known), known, d.removalsHeld(in)}
	s.Imported = s.Imported[:min(len(s.Imported), maxImported)]
	s.NotImported = s.NotImported[:min(len(s.NotImported), maxNotImported)]
	for i := range s.NotImported {
		s.NotImported[i].Message = cut(s.NotImported[i].Message)
	}
	return s
}

func (d *decision) ready(in *Import, s Status, known Condition) Condition {
	c := Condition{Type: ConditionReady, Status: service.ConditionFalse}
	switch {
	case d.invalid[in.Ref] != "":
		c.Reason, c.Message = ReasonInvalidSpec, d.invalid[in.Ref]+"; what was imported stays as it is"
	case known.Status != service.ConditionTrue:
		c.Status, c.Reason, c.Message = service.ConditionUnknown, known.Reason, known.Message
	case len(s.NotImported) > 0:
		var names []string
		for _, n := range s.NotImported {
			names = append(names, n.Consul+" ("+n.Reason+")")
		}
		c.Reason, c.Message = ReasonNotAllImported, "not imported: "+some(names)
	case s.Services == 0:
		c.Reason, c.Message = ReasonNothingFound, "Consul has no service that matches the pattern"
	default:
		c.Status, c.Reason, c.Message = service.ConditionTrue, ReasonImported, fmt.Sprintf("services imported: %d", s.Services)
	}
	c.Message = cut(c.Message)
	return c
}

// sourceKnown says whether all that an import needs of Consul is known, and
// whether it was not even asked yet.
func (d *decision) sourceKnown(in *Import) (c Condition, pending bool) {
	var unknown []string
	if listing := d.Listings[in.Where]; len(in.Names) == 0 && listing.unknown() != "" {
		unknown = append(unknown, "the list of services: "+listing.unknown())
		pending = listing.unasked()
	}
	for _, v := range d.verdicts[in.Ref] {
		if v.unknown != "" {
			unknown = append(unknown, v.origin.Name+": "+v.unknown)
			pending = pending || v.answer.unasked()
		}
	}
	if len(unknown) == 0 {
		return Condition{ConditionSourceKnown, service.ConditionTrue, ReasonAnswered, "Consul's answers are whole and current"}, false
	}
	return Condition{ConditionSourceKnown, service.ConditionFalse, ReasonSourceUnknown, cut(some(unknown))}, pending
}

// removalsHeld says what stays although Consul does not show it.
func (d *decision) removalsHeld(in *Import) Condition {
	var reason string
	var held []string
	for _, v := range d.verdicts[in.Ref] {
		if v.held == "" {
			continue
		}
		if reason == "" || reason == ReasonNotConfirmed {
			reason = v.reason
		}
		held = append(held, fmt.Sprintf("Service %s (endpoints held: %d): %s", v.ref.Name, len(v.kept), v.held))
	}
	if len(held) == 0 {
		return Condition{ConditionRemovalsHeld, service.ConditionFalse, ReasonNothingHeld, "nothing is held"}
	}
	return Condition{ConditionRemovalsHeld, service.ConditionTrue, reason, cut(some(held))}
}

// cut shortens a message.
func cut(message string) string {
	runes := []rune(message)
	if len(runes) <= maxMessage {
		return message
	}
	return string(runes[:maxMessage-3]) + "..."
}
