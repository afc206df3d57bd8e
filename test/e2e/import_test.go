package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// importRules are what the docs say that the controller's token needs, and no more.
const importRules = `
node_prefix "fairway-` + cluster.ClusterID + `-" { policy = "write" }` + consultest.ImportRules

// TestImport: a service of Consul is a Service, with the instances that pass; what
// is not known, or not ours, changes nothing; and what was imported goes with its
// ConsulImport.
func TestImport(t *testing.T) {
	policy := installImporter(t)
	app := fresh(t, workload.App{Name: "imported", Replicas: 3, Ungated: true, Annotations: map[string]string{"fairway.dev/service-names": ""}})
	pods := runningPods(t, app)
	caller, backends := pods[2], pods[:2]
	forgetBackends(t, app.Name, app.Name+"-taken")
	for n, pod := range backends {
		registerBackend(t, app.Name, n, pod, api.HealthPassing, "1")
		registerBackend(t, app.Name+"-taken", n, pod, api.HealthPassing, "1")
	}
	foreign, err := fleet.kube.CoreV1().Services(app.Namespace).Create(bounded(t), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: app.Name + "-taken"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	in := importer{fleet.side, t, app.Namespace, app.Name}
	in.create(v1alpha1.ConsulImportSpec{Source: v1alpha1.ConsulSource{Names: []string{app.Name, app.Name + "-taken"}}})
	in.waitEndpoints("both backends", backends[0], backends[1])
	in.waitCondition(consulimport.ConditionReady, metav1.ConditionFalse, consulimport.ReasonNotAllImported)
	in.calls(caller, backends...)

	t.Run("an instance turns critical and back", func(t *testing.T) {
		registerBackend(t, app.Name, 0, backends[0], api.HealthCritical, "1")
		critical := time.Now()
		in.waitEndpoints("the one that passes", backends[1])
		t.Logf("out after %s", time.Since(critical).Round(time.Millisecond))
		registerBackend(t, app.Name, 0, backends[0], api.HealthPassing, "1")
		in.waitEndpoints("both again", backends[0], backends[1])
	})
	t.Run("the leader is killed", func(t *testing.T) {
		before := in.versions()
		leader := fleet.waitLeader(t, "")
		if err := fleet.kube.CoreV1().Pods(workload.Namespace).Delete(bounded(t), leader.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		fleet.waitLeader(t, leader.Name)
		registerBackend(t, app.Name, 0, backends[0], api.HealthCritical, "2")
		in.waitEndpoints("what the next leader knows", backends[1])
		after := in.versions()
		if before["Service"] != after["Service"] || before["ConsulImport's spec"] != after["ConsulImport's spec"] {
			t.Errorf("versions %v, before %v", after, before)
		}
		registerBackend(t, app.Name, 0, backends[0], api.HealthPassing, "2")
		in.waitEndpoints("both again", backends[0], backends[1])
	})
	t.Run("the token sees nothing", func(t *testing.T) {
		revision := 10
		says := func(rules, reason string) {
			t.Helper()
			setRules(t, policy, rules)
			until(t, "the controller says "+reason, func(ctx context.Context) (bool, string, error) {
				revision++ // what is held was asked with the rights from before
				registerBackend(t, app.Name, 0, backends[0], api.HealthPassing, fmt.Sprint(revision))
				c, err := in.condition(ctx, consulimport.ConditionSourceKnown)
				return c.Reason == reason, c.Reason + ": " + c.Message, err
			})
			in.waitEndpoints("both, still", backends...)
		}
		says(`node_prefix "" { policy = "read" }`, consulimport.ReasonSourceUnknown)
		says(importRules, consulimport.ReasonAnswered)
	})
	t.Run("what is not ours is not touched", func(t *testing.T) {
		now, err := fleet.kube.CoreV1().Services(app.Namespace).Get(bounded(t), foreign.Name, metav1.GetOptions{})
		if err != nil || now.ResourceVersion != foreign.ResourceVersion || now.UID != foreign.UID {
			t.Errorf("the Service that was there: %v, %v", now, err)
		}
		slices, err := fleet.kube.DiscoveryV1().EndpointSlices(app.Namespace).List(bounded(t), metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + foreign.Name})
		if err != nil || len(slices.Items) > 0 {
			t.Errorf("%d EndpointSlices of it, %v", len(slices.Items), err)
		}
	})
	t.Run("the import is deleted", func(t *testing.T) {
		if err := in.client().Delete(bounded(t), in.name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		until(t, "the Service is gone", func(ctx context.Context) (bool, string, error) {
			_, err := fleet.kube.CoreV1().Services(app.Namespace).Get(ctx, app.Name, metav1.GetOptions{})
			return apierrors.IsNotFound(err), fmt.Sprint(err), nil
		})
		in.waitEndpoints("none")
	})
}

// installImporter has the controller import, with a token of its own, whose policy
// it returns. It is as before after the test.
func installImporter(t *testing.T) *api.ACLPolicy {
	t.Helper()
	acl, write := fleet.consul[0].ACL(), new(api.WriteOptions).WithContext(bounded(t))
	name := fmt.Sprintf("importer-%d", time.Now().UnixNano())
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: name, Rules: importRules}, write)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := acl.TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, write)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}, StringData: map[string]string{"token": token.SecretID}}
	if _, err := fleet.kube.CoreV1().Secrets(workload.Namespace).Create(bounded(t), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := workload.Configure(ctx, fleet.lab, fleet.registry); err != nil {
			t.Errorf("install Fairway as it was: %v", err)
		}
		if _, err := fleet.lab.Kubectl(ctx, "get", "crd", "consulimports.fairway.dev"); err != nil {
			t.Errorf("the chart has taken the ConsulImports of users with it: %v", err)
		}
	})
	if err := workload.Configure(bounded(t), fleet.lab, fleet.registry, "controller.import.enabled=true",
		"controller.consulAddress=http://consul.service.consul:8500", "controller.tokenSecret.name="+name); err != nil {
		t.Fatal(err)
	}
	fleet.tellControllers(t)
	return policy
}

func setRules(t *testing.T, policy *api.ACLPolicy, rules string) {
	t.Helper()
	policy.Rules = rules
	if _, _, err := fleet.consul[0].ACL().PolicyUpdate(policy, new(api.WriteOptions).WithContext(bounded(t))); err != nil {
		t.Fatal(err)
	}
}

// runningPods deploys the app and returns its pods.
func runningPods(t *testing.T, app workload.App) []corev1.Pod {
	t.Helper()
	if _, err := fleet.kube.AppsV1().Deployments(app.Namespace).Create(bounded(t), app.Deployment(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	waitRolledOut(t, app)
	pods, err := fleet.kube.CoreV1().Pods(app.Namespace).List(bounded(t), metav1.ListOptions{LabelSelector: app.Selector()})
	if err != nil {
		t.Fatal(err)
	}
	return pods.Items
}

// registerBackend registers a pod as what stands outside of the cluster: by the
// catalog's own API, under a node of its own.
func registerBackend(t *testing.T, name string, n int, pod corev1.Pod, health, revision string) {
	t.Helper()
	id := fmt.Sprintf("%s-%d", name, n)
	registration := &api.CatalogRegistration{
		Node: "vm-" + id, Address: pod.Status.PodIP,
		Service: &api.AgentService{ID: id, Service: name, Port: 8080, Tags: []string{revision}},
		Check:   &api.AgentCheck{CheckID: id, ServiceID: id, Status: health},
	}
	if _, err := fleet.consul[0].Catalog().Register(registration, new(api.WriteOptions).WithContext(bounded(t))); err != nil {
		t.Fatal(err)
	}
}

// forgetBackends takes out what was registered of the services, after the test.
func forgetBackends(t *testing.T, names ...string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		for _, name := range names {
			for n := range 2 {
				gone := &api.CatalogDeregistration{Node: fmt.Sprintf("vm-%s-%d", name, n)}
				if _, err := fleet.consul[0].Catalog().Deregister(gone, new(api.WriteOptions).WithContext(ctx)); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// importer is a ConsulImport, and the Service of its name.
type importer struct {
	side
	t               *testing.T
	namespace, name string
}

func (i importer) client() dynamic.ResourceInterface {
	client, err := dynamic.NewForConfig(i.lab.RESTConfig())
	if err != nil {
		i.t.Fatal(err)
	}
	return client.Resource(v1alpha1.GroupVersion().WithResource("consulimports")).Namespace(i.namespace)
}

func (i importer) create(spec v1alpha1.ConsulImportSpec) {
	i.t.Helper()
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.ConsulImport{Spec: spec})
	if err != nil {
		i.t.Fatal(err)
	}
	delete(content, "status")
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(v1alpha1.GroupVersion().WithKind("ConsulImport"))
	object.SetName(i.name)
	if _, err := i.client().Create(bounded(i.t), object, metav1.CreateOptions{}); err != nil {
		i.t.Fatal(err)
	}
}

func (i importer) read(ctx context.Context) (in v1alpha1.ConsulImport, err error) {
	object, err := i.client().Get(ctx, i.name, metav1.GetOptions{})
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &in)
	}
	return in, err
}

func (i importer) condition(ctx context.Context, kind string) (metav1.Condition, error) {
	in, err := i.read(ctx)
	if c := meta.FindStatusCondition(in.Status.Conditions, kind); c != nil {
		return *c, err
	}
	return metav1.Condition{}, err
}

func (i importer) waitCondition(kind string, status metav1.ConditionStatus, reason string) {
	i.t.Helper()
	until(i.t, kind+" is "+string(status), func(ctx context.Context) (bool, string, error) {
		c, err := i.condition(ctx, kind)
		return c.Status == status && c.Reason == reason, fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), err
	})
}

// waitEndpoints waits until the Service has these ready endpoints and no others.
func (i importer) waitEndpoints(what string, pods ...corev1.Pod) {
	i.t.Helper()
	var want []string
	for _, pod := range pods {
		want = append(want, pod.Status.PodIP)
	}
	i.waitAddresses(what, want)
}

// waitAddresses waits until the endpoints have these addresses and no others.
func (i importer) waitAddresses(what string, want []string) {
	i.t.Helper()
	slices.Sort(want)
	until(i.t, "the Service's endpoints are "+what, func(ctx context.Context) (bool, string, error) {
		list, err := i.kube.DiscoveryV1().EndpointSlices(i.namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + i.name})
		if err != nil {
			return false, "", err
		}
		var got []string
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				got = append(got, e.Addresses...)
			}
		}
		slices.Sort(got)
		return slices.Equal(got, want), fmt.Sprint(got), nil
	})
}

// versions are those of what was written, by what it is.
func (i importer) versions() map[string]string {
	i.t.Helper()
	service, err := i.kube.CoreV1().Services(i.namespace).Get(bounded(i.t), i.name, metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	in, err := i.read(bounded(i.t))
	if err != nil {
		i.t.Fatal(err)
	}
	return map[string]string{"Service": service.ResourceVersion, "ConsulImport's spec": fmt.Sprint(in.Generation)}
}

// calls calls the Service at its cluster IP, from a pod, until all of the backends
// have answered.
func (i importer) calls(caller corev1.Pod, pods ...corev1.Pod) {
	i.t.Helper()
	service, err := i.kube.CoreV1().Services(i.namespace).Get(bounded(i.t), i.name, metav1.GetOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	from, err := i.lab.Pod(caller.Spec.NodeName, netip.MustParseAddr(caller.Status.PodIP))
	if err != nil {
		i.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}}
	url := "http://" + net.JoinHostPort(service.Spec.ClusterIP, "8080")
	answered := map[string]bool{}
	until(i.t, "all backends have answered at "+url, func(ctx context.Context) (bool, string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, "", err
		}
		response, err := client.Do(request)
		if err != nil {
			return false, "", err
		}
		defer response.Body.Close()
		name, err := io.ReadAll(response.Body)
		answered[strings.TrimSpace(string(name))] = true
		return len(answered) == len(pods), fmt.Sprint(answered), err
	})
	for _, pod := range pods {
		if !answered[pod.Name] {
			i.t.Errorf("%s has not answered, but %v have", pod.Name, answered)
		}
	}
}
