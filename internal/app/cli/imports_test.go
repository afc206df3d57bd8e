package cli

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/service"
)

// A manifest is looked at as if it were applied.
func TestImportsText(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "import.yaml")
	manifest := `apiVersion: fairway.dev/v1alpha1
kind: ConsulImport
metadata: {name: backends, namespace: shop}
spec: {source: {names: [web, db]}}
`
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	tried, err := newAccess().manifest(file)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	read := consulimport.Read{Asked: now, Index: 7}
	plan, _ := consulimport.Decide(consulimport.Input{
		Cluster: "east", Now: now, Imports: []consulimport.Import{*tried}, MaxShare: 1,
		Answers: map[consulimport.Origin]consulimport.Answer{
			{Name: "web"}: {Read: read, Instances: []consulimport.Instance{{ID: "web-1", Health: service.Passing, Address: netip.MustParseAddr("10.0.0.1"), Port: 80}}},
			{Name: "db"}:  {Read: read},
		},
	}, consulimport.Memory{})
	var out strings.Builder
	lines := diagnosis.Imports(plan)
	lines[0].Tell("NotAllImported", "the same") // is no news
	if lines[0].Told != "" {
		t.Errorf("told %q", lines[0].Told)
	}
	lines[0].Tell("SourceUnknown", "web: the answer was filtered")
	if err := writeImports(&out, lines); err != nil {
		t.Fatal(err)
	}
	want := `IMPORT         READY  REASON          SERVICES  ENDPOINTS  MESSAGE
shop/backends  false  NotAllImported  1         1          not imported: db (NotInConsul)

shop/backends
  not imported  db: NotInConsul: Consul has nothing of the service
  to write      create EndpointSlice shop/web-consul-1: new: 10.0.0.1
  to write      create Service shop/web: Consul has the service
  told          SourceUnknown: web: the answer was filtered
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if silent := (diagnosis.ImportLine{Ready: true, Reason: "Imported"}); !silent.Plain() {
		t.Errorf("%+v is not plain", silent)
	} else if silent.Tell("", ""); silent.Plain() {
		t.Error("that no controller has told of it is plain")
	}
}

// One that is there already keeps what it owns: to try the same changes nothing.
func TestTriedImportTakesThePlaceOfItsName(t *testing.T) {
	t.Parallel()
	ref, other := consulimport.Ref{Namespace: "shop", Name: "backends"}, consulimport.Ref{Namespace: "bar", Name: "backends"}
	got := instead([]consulimport.Import{{Ref: other, UID: "2"}, {Ref: ref, UID: "1", Names: []string{"old"}}}, consulimport.Import{Ref: ref, Names: []string{"new"}})
	want := []consulimport.Import{{Ref: other, UID: "2"}, {Ref: ref, UID: "1", Names: []string{"new"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := instead(nil, consulimport.Import{Ref: ref}); len(got) != 1 {
		t.Errorf("a new one: %+v", got)
	}
}
