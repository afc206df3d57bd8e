package e2e

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/lab/workload"
)

// TestSwitchFromConsulK8sAndBack is docs/migrate-consul-k8s.md word by word, with the
// catalog sync of consul-k8s itself, there and back: in every answer of the servers clients
// are given each place that consul-k8s gave them.
func TestSwitchFromConsulK8sAndBack(t *testing.T) {
	fairway := newShell(t)
	fleet.tellControllers(t)
	consulK8sAlone(t)
	app := fresh(t, workload.App{Name: "synced", Replicas: 3, Ungated: true, Annotations: map[string]string{"fairway.dev/service-names": ""}})
	fleet.createDeployment(t, app)
	waitRolledOut(t, app)
	want := createForConsulK8s(t, app)
	onlyUnder(t, want, isSync)
	watches := watchAll(t, want)

	out := fairway.eventually(0, []string{"install Fairway with"}, "migrate", "consul-k8s")
	values := valuesIn(t, out)
	step(t, "install Fairway with the values", workload.Configure(t.Context(), fleet.lab, workload.ConsulServers))
	helmWith(t, values)
	fairway.eventually(0, []string{"Fairway stands beside consul-k8s for every entry"}, "migrate", "consul-k8s")
	tagOfSync(t, fairway, app, want)
	out = fairway.eventually(0, []string{"Fairway stands beside consul-k8s for every entry"}, "migrate", "consul-k8s")
	made := fairways(t, want)
	doNext(t, out)
	until(t, "the sync has ended", func(ctx context.Context) (bool, string, error) {
		pods, err := fleet.kube.CoreV1().Pods(workload.ConsulK8sNamespace).List(ctx, metav1.ListOptions{})
		return err == nil && len(pods.Items) == 0, fmt.Sprint(len(pods.Items), " pods"), err
	})
	fairway.eventually(0, []string{"next: fairway purge --node k8s-sync --apply"}, "migrate", "consul-k8s")
	admin := adminToken(t)
	fairway.eventually(1, []string{" to remove, 0 to keep"}, "purge", "--node", "k8s-sync", admin)
	// Fairway's token may take out the entries, and not the node.
	fairway.eventually(2, []string{"kept 0", "lacks permission 'node:write'"}, "purge", "--node", "k8s-sync", "--apply")
	fairway.eventually(0, []string{"next: fairway purge --node k8s-sync --apply"}, "migrate", "consul-k8s")
	fairway.eventually(0, []string{"removed Consul node k8s-sync"}, "purge", "--node", "k8s-sync", "--apply", admin)
	fairway.eventually(0, []string{"Fairway has taken the place"}, "migrate", "consul-k8s")
	onlyUnder(t, want, isFairways)
	for name, before := range made {
		before.untouched(t, name)
	}

	kubectl(t, "-n", workload.ConsulK8sNamespace, "scale", "deployment", workload.ConsulK8sSync, "--replicas=1")
	ours := []string{"purge", "--cluster", fleet.lab.ClusterID(), "--filter", `"fairway-endpoint" in Meta`}
	fairway.eventually(1, []string{" to remove, 0 to keep"}, ours...)
	helm(t, "upgrade", "fairway", chart(t), "-n", workload.Namespace, "--reset-then-reuse-values", "--set", "controller.export.enabled=false", "--wait")
	fairway.eventually(0, []string{"kept 0"}, append(ours, "--apply", admin)...)
	onlyUnder(t, want, isSync)
	for _, watch := range watches {
		watch.stop()
	}
}

// tagOfSync gives a Service the tag of the sync, which takes Fairway's entries for its
// own then, and takes it away again.
func tagOfSync(t *testing.T, fairway shell, app workload.App, want places) {
	t.Helper()
	name := app.Name + "-" + app.Namespace
	annotate := func(tags string) {
		t.Helper()
		kubectl(t, "-n", app.Namespace, "annotate", "service", app.Name, "--overwrite", "consul.hashicorp.com/service-tags="+tags)
	}
	annotate("v1, k8s")
	fairway.eventually(1, []string{"Service " + app.Namespace + "/" + app.Name + " has the tag k8s", "until consul-k8s' sync is stopped"}, "migrate", "consul-k8s")
	until(t, "consul-k8s takes out an entry of Fairway's", func(context.Context) (bool, string, error) {
		now := placesUnder(t, places{name: nil}, isFairways)[name]
		return len(now) < len(want[name]), fmt.Sprint(now), nil
	})
	annotate("v1, blue")
}

// consulK8sAlone puts consul-k8s in the place of Fairway, and puts Fairway back after
// the test.
func consulK8sAlone(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := workload.Configure(ctx, fleet.lab, fleet.registry); err != nil {
			t.Errorf("put Fairway back: %v", err)
		}
	})
	step(t, "uninstall Fairway", workload.UninstallFairway(t.Context(), fleet.lab))
	consulK8s, err := workload.StartConsulK8s(t.Context(), fleet.lab, fleet.kube, os.Stderr)
	step(t, "start consul-k8s' catalog sync", err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := consulK8s.Remove(ctx); err != nil {
			t.Errorf("remove consul-k8s: %v", err)
		}
	})
}

// places are where clients connect, in order, by the name of the service in Consul.
type places map[string][]string

// createForConsulK8s makes Services of all kinds, as a user of consul-k8s has them, and
// says where they are to be found.
func createForConsulK8s(t *testing.T, app workload.App) places {
	t.Helper()
	annotations := func(pairs ...string) map[string]string {
		all := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			all["consul.hashicorp.com/"+pairs[i]] = pairs[i+1]
		}
		return all
	}
	create := func(suffix string, annotations map[string]string, change func(*corev1.Service)) *corev1.Service {
		return fleet.createService(t, app, app.Name+suffix, func(svc *corev1.Service) {
			svc.Annotations = annotations
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "metrics", Port: 90, TargetPort: intstr.FromInt32(9090)})
			if change != nil {
				change(svc)
			}
		})
	}
	create("", annotations("service-port", "http", "service-tags", "v1, blue", "service-meta-team", "shop"), nil)
	create("-named", annotations("service-name", app.Name+"-by-name", "service-port", "metrics"), nil)
	create("-headless", annotations("service-port", "http"), func(svc *corev1.Service) { svc.Spec.ClusterIP = corev1.ClusterIPNone })
	create("-number", annotations("service-port", "8081"), nil)
	create("-external", nil, func(svc *corev1.Service) { svc.Spec.ExternalIPs = []string{"203.0.113.81"} })
	create("-quiet", annotations("service-sync", "false"), nil)
	node := create("-node", nil, func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeNodePort })
	balanced := create("-lb", nil, func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeLoadBalancer })
	balanced.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.80"}, {Hostname: "lb.example.com"}}
	if _, err := fleet.kube.CoreV1().Services(app.Namespace).UpdateStatus(bounded(t), balanced, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	list, err := fleet.kube.CoreV1().Pods(app.Namespace).List(bounded(t), metav1.ListOptions{LabelSelector: app.Selector()})
	if err != nil {
		t.Fatal(err)
	}
	at := func(port int32, pick func(corev1.PodStatus) string) (found []string) {
		for _, pod := range list.Items {
			found = append(found, net.JoinHostPort(pick(pod.Status), strconv.Itoa(int(port))))
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	pod := func(s corev1.PodStatus) string { return s.PodIP }
	host := func(s corev1.PodStatus) string { return s.HostIP }
	suffix := "-" + app.Namespace
	return places{
		app.Name + suffix:               at(8080, pod),
		app.Name + "-by-name":           at(9090, pod),
		app.Name + "-headless" + suffix: at(8080, pod),
		app.Name + "-number" + suffix:   at(8081, pod),
		app.Name + "-external" + suffix: {"203.0.113.81:80"},
		app.Name + "-node" + suffix:     at(node.Spec.Ports[0].NodePort, host),
		app.Name + "-lb" + suffix:       {"203.0.113.80:80", "lb.example.com:80"},
		"kubernetes-default":            {apiServer(t)},
	}
}

// apiServer is where the Service kubernetes leads.
func apiServer(t *testing.T) string {
	t.Helper()
	slice, err := fleet.kube.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Get(bounded(t), "kubernetes", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort(slice.Endpoints[0].Addresses[0], strconv.Itoa(int(*slice.Ports[0].Port)))
}

func isSync(e *api.ServiceEntry) bool     { return e.Node.Node == workload.ConsulK8sNode }
func isFairways(e *api.ServiceEntry) bool { return strings.HasPrefix(e.Node.Node, "fairway-") }

// placesUnder are where the entries of these names lead that are meant and pass.
func placesUnder(t *testing.T, names places, meant func(*api.ServiceEntry) bool) places {
	t.Helper()
	got := places{}
	for name := range names {
		for _, e := range listed(t, name) {
			if meant(e) && e.Checks.AggregatedStatus() == api.HealthPassing {
				got[name] = append(got[name], placeOf(e))
			}
		}
		slices.Sort(got[name])
		got[name] = slices.Compact(got[name])
	}
	return got
}

// onlyUnder waits until clients are given all places by entries that are meant, and
// there are no others under these names.
func onlyUnder(t *testing.T, want places, meant func(*api.ServiceEntry) bool) {
	t.Helper()
	others := func(e *api.ServiceEntry) bool { return !meant(e) }
	until(t, "each name has the entries it should have, and no others", func(context.Context) (bool, string, error) {
		diff := cmp.Diff(want, placesUnder(t, want, meant))
		for name, others := range placesUnder(t, want, others) {
			if len(others) > 0 {
				diff += fmt.Sprintf("\n%s also has %v", name, others)
			}
		}
		return diff == "", diff, nil
	})
}

// watchAll follows each name from now on: none of its places may ever be missing.
func watchAll(t *testing.T, want places) (watches []*catalogWatch) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		watch := watchCatalog(t, name)
		watch.requirePlaces(want[name])
		watches = append(watches, watch)
	}
	return watches
}

// fairways are the standings of Fairway's entries under these names.
func fairways(t *testing.T, want places) map[string]standings {
	t.Helper()
	made := map[string]standings{}
	for name := range want {
		made[name] = stands(t, name).but(func(s standing) bool { return s.Cluster == "" })
	}
	return made
}

// valuesIn puts the values that the command has printed into a file, as a person does.
func valuesIn(t *testing.T, out string) (file string) {
	t.Helper()
	_, values, found := strings.Cut(out, "publishes the same:\n\n")
	values, _, ended := strings.Cut(values, "\n\nnext: ")
	if !found || !ended {
		t.Fatalf("no values in:\n%s", out)
	}
	file = filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// doNext runs the kubectl command that stands in the last line.
func doNext(t *testing.T, out string) {
	t.Helper()
	_, command, found := strings.Cut(out, "\nnext: kubectl ")
	if !found {
		t.Fatalf("the next step is no kubectl command:\n%s", out)
	}
	kubectl(t, strings.Fields(command)...)
}

func kubectl(t *testing.T, args ...string) {
	t.Helper()
	out, err := fleet.lab.Kubectl(bounded(t), args...)
	step(t, "kubectl "+strings.Join(args, " "), err)
	t.Log(out)
}

func helmWith(t *testing.T, values string) {
	t.Helper()
	helm(t, "upgrade", "fairway", chart(t), "-n", workload.Namespace, "--reset-then-reuse-values", "-f", values, "--wait")
}

func helm(t *testing.T, args ...string) {
	t.Helper()
	_, err := fleet.lab.Helm(bounded(t), args...)
	step(t, "helm "+strings.Join(args, " "), err)
}

func chart(t *testing.T) string {
	t.Helper()
	checkout, err := gobuild.FindCheckout(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(checkout.Root, "deploy", "chart")
}

// adminToken is the flag with a token that may write k8s-sync.
func adminToken(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(fleet.lab.ConsulToken("management")), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--consul-token-file=" + file
}
