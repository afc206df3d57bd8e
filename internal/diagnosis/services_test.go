package diagnosis_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/service"
)

// ofService is an entry that a Service has of the pod, and not the pod itself.
func ofService(entry diagnosis.Listed) diagnosis.Listed {
	in := &entry.Instance
	in.Endpoint = service.EndpointRef{Namespace: "shop", Service: "web", Key: "uid-" + in.Pod.UID}
	in.ID = in.Endpoint.InstanceID(in.Name)
	entry.ConsulNode = "fairway-east-services"
	return entry
}

// What a Service has of the pod is not for the pod's agent to remove.
func TestWhyLeavesServicesAlone(t *testing.T) {
	want := diagnosis.Why(healthy())
	f := healthy()
	entry := ofService(listed(f.Pod, ""))
	entry.Given = false // or it would count among the others that pass
	f.Listings[0].Entries = append(f.Listings[0].Entries, entry)
	if diff := cmp.Diff(all(want), all(diagnosis.Why(f))); diff != "" {
		t.Errorf("-without +with an entry of a Service:\n%s", diff)
	}
}

// A person knows pods by their names, not by their UIDs.
func TestServicesNameWhatIsSkipped(t *testing.T) {
	web := export.Object{Kind: export.KindService, Namespace: "shop", Name: "web"}
	lines := diagnosis.Services(export.Plan{Services: []export.Result{{Service: web, Verdict: export.Published, Skipped: []export.Skipped{
		{Reason: "no address"}, {Key: "ip-10.0.0.1", Reason: "no port"}, {Key: "uid-u1", Pod: "web-1", Reason: "no port"},
	}}}})
	want := []string{"no address", "ip-10.0.0.1: no port", "pod web-1: no port"}
	if len(lines) != 1 || !slices.Equal(lines[0].Skipped, want) {
		t.Errorf("%+v, want skipped %q", lines, want)
	}
}
