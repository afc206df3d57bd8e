package agentapi

import (
	"testing"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

func TestDirect(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind   registration.Kind
		health service.Health
		exists bool
		ok     bool
		notes  string
	}{
		"new and in service":     {registration.Register, service.Passing, false, true, ""},
		"new and not":            {registration.Register, service.Critical, false, false, ""},
		"there already":          {registration.Register, service.Passing, true, false, ""},
		"enters":                 {registration.SetHealth, service.Passing, true, true, "why"},
		"leaves":                 {registration.SetHealth, service.Critical, true, true, "why"},
		"leaves, and is unknown": {registration.SetHealth, service.Critical, false, false, "why"},
		"is removed":             {registration.Deregister, service.Critical, true, false, "why"},
	} {
		in, ok := direct(registration.Op{Kind: tt.kind, Instance: service.Instance{Health: tt.health, Notes: "why"}}, tt.exists)
		if ok != tt.ok || in.Notes != tt.notes || in.Health != tt.health {
			t.Errorf("%s: %+v, %v; want notes %q, %v", name, in, ok, tt.notes, tt.ok)
		}
	}
}
