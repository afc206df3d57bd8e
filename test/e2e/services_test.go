package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// TestServicesInConsul: Services of the main kinds stand in Consul as their
// endpoints are, through a rollout, the deletion of one of several EndpointSlices
// and the death of the controllers, and leave it when they are deleted.
func TestServicesInConsul(t *testing.T) {
	publishServices(t)
	app := fresh(t, workload.App{
		Name: "exported", Replicas: 3, Ungated: true, LeaveSeconds: 3,
		Annotations: map[string]string{"fairway.dev/service-names": ""},
	})
	fleet.createDeployment(t, app)
	waitRolledOut(t, app)

	fleet.createService(t, app, app.Name, nil)
	fleet.createService(t, app, app.Name+"-vip", func(svc *corev1.Service) { svc.Annotations["fairway.dev/service-address"] = "vip" })
	fleet.createService(t, app, app.Name+"-node", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeNodePort })
	fleet.createService(t, app, app.Name+"-quiet", func(svc *corev1.Service) { svc.Annotations = nil })
	byHand := fleet.createService(t, app, app.Name+"-hand", func(svc *corev1.Service) { svc.Spec.Selector = nil })
	for _, suffix := range []string{"a", "b"} {
		fleet.createSlice(t, byHand, suffix)
	}
	nodes := len(podNodes(t, app))
	for name, want := range map[string]int{app.Name: 3, app.Name + "-vip": 1, app.Name + "-node": nodes, app.Name + "-hand": 4} {
		waitPassing(t, name, want)
	}
	client := startLoad(t, app.Name) // by the addresses that Consul gives
	waitLoad(t, client, 200)

	patchDeployment(t, app, `{"spec":{"replicas":4}}`)
	waitPassing(t, app.Name, 4)
	app.Replicas = 4
	roll(t, app, "2")
	waitRolledOut(t, app)
	waitPassing(t, app.Name, 4)

	if err := fleet.kube.DiscoveryV1().EndpointSlices(app.Namespace).Delete(bounded(t), byHand.Name+"-a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPassing(t, byHand.Name, 2)

	leader := fleet.waitLeader(t, "")
	fleet.waitExportAtRest(t, leader)
	_, before := lookUp(t, app.Name)
	if err := fleet.kube.CoreV1().Pods(workload.Namespace).Delete(bounded(t), leader.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	leader = fleet.waitLeader(t, leader.Name)
	if err := fleet.lab.KillContainer(bounded(t), leader.Spec.NodeName, "controller"); err != nil {
		t.Fatal(err)
	}
	fleet.waitExportAtRest(t, fleet.waitLeader(t, ""))
	unchanged(t, app, before)
	waitLoad(t, client, 200)
	stopLoad(t, client)

	if err := fleet.kube.CoreV1().Services(app.Namespace).Delete(bounded(t), byHand.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	waitPassing(t, byHand.Name, 0)
	if found, _ := lookUp(t, app.Name+"-quiet"); len(found) > 0 {
		t.Errorf("a Service that does not ask for it is published: %v", found)
	}
	waitServiceEvent(t, app, "Published")
}

// publishServices switches the export on, and off again at the end of the test, with
// all that it has left.
func publishServices(t *testing.T) {
	t.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: workload.Namespace, Name: "consul-services"},
		StringData: map[string]string{"token": fleet.lab.ConsulToken(cluster.CatalogToken)},
	}
	if _, err := fleet.kube.CoreV1().Secrets(workload.Namespace).Create(bounded(t), secret, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	configure := func(values ...string) error {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		return workload.Configure(ctx, fleet.lab, fleet.registry, values...)
	}
	t.Cleanup(func() {
		if err := configure(); err != nil {
			t.Error(err)
		}
		nodes, _, err := fleet.consul[0].Catalog().Nodes(&api.QueryOptions{NodeMeta: map[string]string{service.MetaCluster: cluster.ClusterID}})
		if err != nil {
			t.Error(err)
		}
		for _, node := range nodes {
			if !strings.HasPrefix(node.Meta[service.MetaNode], "services/") {
				continue
			}
			if _, err := fleet.consul[0].Catalog().Deregister(&api.CatalogDeregistration{Node: node.Node}, nil); err != nil {
				t.Error(err)
			}
		}
	})
	fleet.tellControllers(t)
	if err := configure("controller.export.enabled=true", "controller.consulAddress=http://consul.service.consul:8500",
		"controller.tokenSecret.name=consul-services"); err != nil {
		t.Fatal(err)
	}
	fleet.waitLeader(t, "")
}

func (s side) createDeployment(t *testing.T, app workload.App) {
	t.Helper()
	if _, err := s.kube.AppsV1().Deployments(app.Namespace).Create(bounded(t), app.Deployment(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// createService makes a Service in front of the app that asks to be published.
func (s side) createService(t *testing.T, app workload.App, name string, change func(*corev1.Service)) *corev1.Service {
	t.Helper()
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: name, Annotations: map[string]string{"fairway.dev/service-sync": "true"}},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": app.Name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	if change != nil {
		change(svc)
	}
	made, err := s.kube.CoreV1().Services(app.Namespace).Create(bounded(t), svc, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// createSlice gives a Service an EndpointSlice with two endpoints that are no pods.
func (s side) createSlice(t *testing.T, svc *corev1.Service, suffix string) {
	t.Helper()
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, Name: svc.Name + "-" + suffix,
			Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for n := range 2 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("203.0.113.%d", int(suffix[0]-'a')*10+n+1)}})
	}
	if _, err := s.kube.DiscoveryV1().EndpointSlices(svc.Namespace).Create(bounded(t), slice, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// podNodes are the nodes on which the app's pods are.
func podNodes(t *testing.T, app workload.App) (nodes []string) {
	t.Helper()
	pods, err := fleet.kube.CoreV1().Pods(app.Namespace).List(bounded(t), metav1.ListOptions{LabelSelector: app.Selector()})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods.Items {
		if !slices.Contains(nodes, pod.Spec.NodeName) {
			nodes = append(nodes, pod.Spec.NodeName)
		}
	}
	return nodes
}

// waitPassing waits until the servers give so many passing instances of a service,
// and hold no others.
func waitPassing(t *testing.T, name string, n int) {
	t.Helper()
	start := time.Now()
	until(t, fmt.Sprintf("%s has %d passing instances", name, n), func(ctx context.Context) (bool, string, error) {
		list, _, err := fleet.consul[0].Health().Service(name, "", false, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
		passing := slices.DeleteFunc(slices.Clone(list), func(e *api.ServiceEntry) bool { return e.Checks.AggregatedStatus() != api.HealthPassing })
		return err == nil && len(passing) == n && len(list) == n, fmt.Sprintf("%d of %d", len(passing), len(list)), err
	})
	t.Logf("%s has %d passing instances after %s", name, n, time.Since(start).Round(time.Millisecond))
}

// waitServiceEvent waits for an Event on the app's Service.
func waitServiceEvent(t *testing.T, app workload.App, reason string) {
	t.Helper()
	svc, err := fleet.kube.CoreV1().Services(app.Namespace).Get(bounded(t), app.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "there is an Event "+reason, func(ctx context.Context) (bool, string, error) {
		events, err := fleet.kube.CoreV1().Events(app.Namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, "", err
		}
		for _, e := range events.Items {
			if e.Reason == reason && e.InvolvedObject.Kind == "Service" && e.InvolvedObject.UID == svc.UID {
				return true, "", nil
			}
		}
		return false, fmt.Sprint(len(events.Items), " others"), nil
	})
}
