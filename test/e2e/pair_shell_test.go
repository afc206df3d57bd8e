package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// commandLine: where all is well the commands say so of each cluster; what would be
// if something was told, applied or purged they say, and write nothing.
func (p *pair) commandLine(t *testing.T) {
	id := p.west.lab.ClusterID()
	p.imports(t, p.web).waitAddresses("the pods of the other cluster", p.addresses(t, p.east))
	for _, s := range p.sides() {
		fairway := s.shell(t)
		fairway.eventually(0, []string{"2 of 2 are ready, one leads", "leads, 3 servers in all", "without complaint"}, "doctor")
		out := fairway.eventually(0, nil, "services", "-n", p.app.Namespace)
		for _, row := range []string{p.web + " published " + p.web + " endpoints 2 of 2", p.hand + " published " + p.hand + " endpoints 4 of 4"} {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), row) {
				t.Errorf("no row %q in\n%s", row, out)
			}
		}
	}
	before := p.written(t)
	west := p.west.shell(t)
	out := west.eventually(0, []string{callers + "/" + p.web + "  true   Imported  1         2 "}, "imports")
	if strings.Contains(out, "to write") {
		t.Errorf("something is to be written of imports at rest:\n%s", out)
	}
	manifest := filepath.Join(t.TempDir(), "import.yaml")
	text := fmt.Sprintf("apiVersion: fairway.dev/v1alpha1\nkind: ConsulImport\nmetadata: {namespace: %s, name: tried}\nspec: {source: {names: [%s, nobody]}}\n", callers, p.hand)
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	west.eventually(1, []string{
		"not imported: nobody (NotInConsul)", "create Service " + callers + "/" + p.hand, "create EndpointSlice " + callers + "/" + p.hand,
	}, "imports", "-f", manifest)
	west.eventually(1, []string{
		"what a controller with --export-namespaces=*," + p.app.Namespace + " --export-name={name}-{cluster} would do",
		"register    " + p.web + "-" + id + " at ", "set-health  " + p.web + " at ",
	}, "services", "-n", p.app.Namespace, "--try=--export-namespaces=*,"+p.app.Namespace+",--export-name={name}-{cluster}")
	west.eventually(2, []string{"unknown flag: --export-nam"}, "services", "--try=--export-nam=web")

	web := fmt.Sprintf("Service == %q", p.web)
	purge := []string{"purge", "--cluster", id, "--filter", web}
	west.eventually(1, []string{"0 to remove, 2 to keep; nothing was changed", "clients would miss it"}, purge...)
	out = west.eventually(1, []string{"2 to remove, 0 to keep; nothing was changed"}, append(purge, "--in-service")...)
	if strings.Contains(out, p.east.virtualNodes()) {
		t.Errorf("what is another cluster's is to go:\n%s", out)
	}
	west.eventually(1, []string{"0 to remove, 1 to keep", "does not say that it is of a Kubernetes cluster"}, "purge", "--node", "vm-"+p.hand, "--in-service")
	west.eventually(2, []string{`Selector "Servic" is not valid`}, "purge", "--cluster", id, "--filter", `Servic == "web"`)
	if diff := cmp.Diff(before, p.written(t)); diff != "" {
		t.Errorf("what stands, and the indexes of its last writes (-before +now):\n%s", diff)
	}
}

// written are the entries in Consul of what both clusters publish, and the objects of
// what the second imports, with the indexes of their last writes.
func (p *pair) written(t *testing.T) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, name := range []string{p.web, p.hand, p.pod} {
		all[name] = stands(t, name)
	}
	names, _, err := fleet.consul[0].Catalog().Services(nil)
	if err != nil {
		t.Fatal(err)
	}
	all["names in Consul"] = len(names)
	services, err := p.west.kube.CoreV1().Services(callers).List(bounded(t), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, svc := range services.Items {
		all["Service "+svc.Name] = svc.ResourceVersion
	}
	endpoints, err := p.west.kube.DiscoveryV1().EndpointSlices(callers).List(bounded(t), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, slice := range endpoints.Items {
		all["EndpointSlice "+slice.Name] = slice.ResourceVersion
	}
	imports, err := importer{p.west, t, callers, ""}.client().List(bounded(t), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range imports.Items {
		all["ConsulImport "+in.GetName()] = in.GetResourceVersion()
	}
	return all
}
