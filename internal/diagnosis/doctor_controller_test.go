package diagnosis

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDoctorControllers(t *testing.T) {
	t.Parallel()
	leader, standby := Replica{Name: "c-1", Says: "ok\nthis replica leads\n"}, Replica{Name: "c-2", Says: "ok\nc-1 leads\n"}
	for name, tt := range map[string]struct {
		in   Controllers
		want []string
	}{
		"none needed":         {Controllers{}, nil},
		"needed":              {Controllers{Needed: "nodes that die are not noticed"}, []string{"problem ControllerMissing"}},
		"all well":            {Controllers{Installed: true, Wanted: 2, Replicas: []Replica{leader, standby}}, []string{"ok ControllersReady"}},
		"one is missing":      {Controllers{Installed: true, Wanted: 2, Replicas: []Replica{leader}}, []string{"warning ControllersMissing"}},
		"none is there":       {Controllers{Installed: true, Wanted: 2}, []string{"problem NoController"}},
		"nobody leads":        {Controllers{Installed: true, Wanted: 1, Replicas: []Replica{{Name: "c", Says: "ok\nnobody is known to lead"}}}, []string{"problem NobodyLeads"}},
		"one is blind":        {Controllers{Installed: true, Wanted: 2, Replicas: []Replica{leader, {Name: "c-2", Says: "Consul is away\nc-1 leads"}}}, []string{"warning ControllerNotReady", "warning ControllersMissing"}},
		"the leader is blind": {Controllers{Installed: true, Wanted: 2, Replicas: []Replica{{Name: "c-1", Says: "Consul is away\nthis replica leads"}, standby}}, []string{"warning ControllerNotReady", "problem LeaderNotReady"}},
		"all are blind":       {Controllers{Installed: true, Wanted: 1, Replicas: []Replica{{Name: "c-1", Says: "Consul is away\nthis replica leads"}}}, []string{"warning ControllerNotReady", "problem NoController"}},
		"scaled to nothing":   {Controllers{Installed: true}, []string{"problem ControllerScaledDown"}},
		"something is held":   {Controllers{Installed: true, Wanted: 2, Replicas: []Replica{{Name: "c-1", Says: leader.Says + "2 nodes are frozen"}, {Name: "c-2", Says: standby.Says + "2 nodes are frozen"}}}, []string{"warning ControllerHolds", "ok ControllersReady"}},
		"could not be read":   {Controllers{Problem: "forbidden"}, []string{"unknown ControllersUnknown"}},
		"could not be asked":  {Controllers{Installed: true, Wanted: 1, Replicas: []Replica{{Name: "c-1", Problem: "forbidden"}}}, []string{"unknown ControllerUnknown", "warning ControllersMissing"}},
	} {
		var got []string
		for _, f := range (doctor{InstallationFacts{Controllers: tt.in}}).controllers().Findings {
			got = append(got, string(f.State)+" "+f.Reason)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
