package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/purge"
)

func TestPurgeText(t *testing.T) {
	t.Parallel()
	entry := func(id string) purge.Entry {
		return purge.Entry{ConsulNode: "k8s-sync", ID: id, Service: "web", Address: "10.0.0." + id, Port: 80}
	}
	decisions := []purge.Decision{
		{Entry: entry("1"), Remove: true, Reason: purge.Covered, Says: "clients are given the same by fairway-east"},
		{Entry: entry("2"), Remove: true, Reason: purge.NotGiven, Says: "clients are not given it"},
		{Entry: entry("3"), Reason: purge.InService, Says: "it is passing, and clients would miss it"},
	}
	for name, tt := range map[string]struct {
		purged purged
		want   string
		fine   bool
	}{
		"nothing": {purged{}, "the servers hold no such entry\n", true},
		"empty nodes": {purged{Empty: []string{"fairway-east-n1"}}, `the servers hold no such entry

0 to remove, 0 to keep; nothing was changed
to remove, too: Consul node fairway-east-n1, which holds nothing

next: the same with --apply
`, false},
		"no empty nodes any more": {purged{Applied: true, Empty: []string{"fairway-east-n1"}, Nodes: []string{"fairway-east-n1"}}, `the servers hold no such entry

removed 0, kept 0
removed Consul node fairway-east-n1, which had nothing left
`, true},
		"preview": {purged{Decisions: decisions}, `WHAT    CONSUL NODE  SERVICE  PLACE        BECAUSE
remove  k8s-sync     web      10.0.0.1:80  clients are given the same by fairway-east
remove  k8s-sync     web      10.0.0.2:80  clients are not given it
keep    k8s-sync     web      10.0.0.3:80  it is passing, and clients would miss it

2 to remove, 1 to keep; nothing was changed

next: the same with --apply
`, false},
		"applied": {purged{Applied: true, Decisions: decisions, Failed: map[string]string{"k8s-sync/2": "it was changed meanwhile"}, Nodes: nil},
			`WHAT     CONSUL NODE  SERVICE  PLACE        BECAUSE
removed  k8s-sync     web      10.0.0.1:80  clients are given the same by fairway-east
failed   k8s-sync     web      10.0.0.2:80  it was changed meanwhile
keep     k8s-sync     web      10.0.0.3:80  it is passing, and clients would miss it

removed 1, kept 2
`, false},
		"all gone": {purged{Applied: true, Decisions: decisions[:2], Nodes: []string{"k8s-sync"}},
			`WHAT     CONSUL NODE  SERVICE  PLACE        BECAUSE
removed  k8s-sync     web      10.0.0.1:80  clients are given the same by fairway-east
removed  k8s-sync     web      10.0.0.2:80  clients are not given it

removed 2, kept 0
removed Consul node k8s-sync, which had nothing left
`, true},
	} {
		var out strings.Builder
		if err := writePurged(&out, tt.purged); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, out.String()); diff != "" || tt.purged.fine() != tt.fine {
			t.Errorf("%s: fine %v, -want +got:\n%s", name, tt.purged.fine(), diff)
		}
	}
}
