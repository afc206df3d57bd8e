package diagnosis_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/diagnosis"
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
