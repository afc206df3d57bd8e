package registration_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// Entries of Services stand and fall with their endpoint, whichever pod is behind
// it, and belong to no node.
func TestClaimsOfEndpoints(t *testing.T) {
	pod := livePod("1", service.Passing, "web")
	endpoint := service.EndpointRef{Namespace: "shop", Service: "web", Key: "uid-1"}
	of := func(claim registration.Claim) registration.Claim {
		claim.Endpoint = endpoint
		for i := range claim.Instances {
			claim.Instances[i].Endpoint = endpoint
			delete(claim.Instances[i].Meta, service.MetaNode)
		}
		return claim
	}
	held := registration.Entry{Instance: of(livePod("1", service.Passing, "web")).Instances[0], Cluster: cluster, HasCheck: true}
	withdrawn := of(livePod("1", service.Passing))
	withdrawn.Withdrawn = "namespace shop is denied"
	tests := []struct {
		name   string
		claims []registration.Claim
		gone   map[string]string
		want   []string
	}{
		{"as claimed", []registration.Claim{of(pod)}, nil, nil},
		{"a claim of the pod is another owner's", []registration.Claim{livePod("1", service.Passing)}, nil,
			[]string{"held | web@1 | nothing is known of endpoint shop/web/uid-1, and nothing proves that it is gone"}},
		{"the pod's UID proves nothing", nil, map[string]string{"1": "deletion seen"},
			[]string{"held | web@1 | nothing is known of endpoint shop/web/uid-1, and nothing proves that it is gone"}},
		{"the endpoint is gone", nil, map[string]string{endpoint.String(): "no slice states it"},
			[]string{"set-health | web@1 | critical | endpoint is gone: no slice states it"}},
		{"withdrawn", []registration.Claim{withdrawn}, nil,
			[]string{`set-health | web@1 | critical | the endpoint is not published as "web" any more: namespace shop is denied`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := registration.Decide(registration.Input{
				Cluster: cluster, Claims: tt.claims, Entries: []registration.Entry{held}, Gone: tt.gone,
			})
			if diff := cmp.Diff(tt.want, lines(plan)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
