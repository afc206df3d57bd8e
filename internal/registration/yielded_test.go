package registration_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// What another registrar stands in the place of leaves like everything else,
// status before membership, and is not made again. The pod's other services go
// on.
func TestYielded(t *testing.T) {
	pod := livePod("1", service.Passing, "web", "api")
	incomplete := pod
	incomplete.Incomplete = true
	web, api := entry(pod, "web"), entry(pod, "api")
	tests := []struct {
		name    string
		pod     registration.Claim
		entries []registration.Entry
		want    []string
	}{
		{"in service", pod, []registration.Entry{web, api}, []string{"set-health | web@1 | critical | the other has it"}},
		{"out of service", pod, []registration.Entry{entry(pod, "web", health(service.Critical)), api},
			[]string{"deregister | web@1 | critical | the other has it"}},
		{"gone", pod, []registration.Entry{api}, nil},
		{"nothing registered", pod, nil, []string{"register | api@1 | passing | not registered yet"}},
		{"another annotation is not understood", incomplete, []registration.Entry{web, api},
			[]string{"set-health | web@1 | critical | the other has it"}},
		{"under another ID", pod, []registration.Entry{entry(pod, "web", oldID), api},
			[]string{"set-health | web@1 | critical | the other has it"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := registration.Decide(registration.Input{
				Cluster: cluster, Node: node, Claims: []registration.Claim{tt.pod}, Entries: tt.entries,
				Yielded: map[string]string{web.Instance.ID: "the other has it"},
			})
			if diff := cmp.Diff(tt.want, lines(plan)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
