package e2e

import (
	"testing"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// pair is two Kubernetes clusters that share a Consul. In each runs the same app, in
// namespaces of the same name, behind the same Services, all of which are published.
// So that the clusters' entries differ in nothing but whose they are.
type pair struct {
	east, west side // the fleet, and a cluster of one node
	app        workload.App
	web        string // the Services of the app's pods, and its name in Consul
	hand       string // the Services with EndpointSlices made by hand: a and b
	pod        string // a pod that publishes itself, and its name in Consul
	machine    string // a service of Consul that Kubernetes knows nothing of
	deaf       reaper // reaches no agent at its port; see portsShut
}

// bringUpPair makes a pair of the fleet and another lab, until the end of the test.
func bringUpPair(t *testing.T) *pair {
	t.Helper()
	topology := cluster.Joining(fleet.lab.Name+"w", fleet.lab.Name)
	topology.Kubernetes, topology.DNS = fleet.lab.Kubernetes, true // the fleet's pods ask Consul's DNS
	lab, err := cluster.UpOwned(bounded(t), topology, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	west, err := newSide(lab)
	t.Cleanup(func() {
		if err := lab.Down(bounded(t)); err != nil {
			t.Error(err)
		}
		west.leaveServers(t)
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{east: fleet.side, west: west, app: workload.App{
		Namespace: namespace(t), Replicas: 2, Ungated: true, LeaveSeconds: 1, ClusterDNS: true,
		Annotations: map[string]string{"fairway.dev/service-names": ""},
	}}
	suffix := p.app.Namespace[len(namespacePrefix):]
	p.app.Name, p.web, p.hand, p.pod, p.machine = "pair"+suffix, "pair"+suffix, "hand"+suffix, "pod"+suffix, "machine"+suffix
	p.install(t)
	p.deploy(t)
	serving(t, p.pod, 2)
	p.deaf = startReaper(t, "consul-2", "--agent-port=1")
	return p
}

// install has the fleet register with the servers as well, and installs Fairway in
// the other cluster.
func (p *pair) install(t *testing.T) {
	t.Helper()
	for _, s := range p.sides() {
		s.tellControllers(t)
	}
	t.Cleanup(func() { // the other tests count on it
		moveRegistry(t, workload.ConsulAgents)
		fleet.leaveServers(t)
	})
	bothWays := []string{"controller.export.enabled=true", "controller.import.enabled=true"}
	moveRegistry(t, workload.ConsulServers, bothWays...)
	if err := workload.InstallFairway(bounded(t), p.west.lab, workload.ConsulServers, t.Output(), bothWays...); err != nil {
		t.Fatal(err)
	}
}

func (p *pair) deploy(t *testing.T) {
	t.Helper()
	registerVM(t, p.hand, "203.0.113.200")
	t.Cleanup(func() { forgetVM(t, p.hand) })
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.app.Namespace}}
	if _, err := p.west.kube.CoreV1().Namespaces().Create(bounded(t), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	alone := p.app
	alone.Name, alone.Replicas, alone.Annotations = p.pod, 1, nil
	for _, s := range p.sides() {
		s.createDeployment(t, p.app)
		s.createDeployment(t, alone)
		s.createService(t, p.app, p.web, func(svc *corev1.Service) { svc.Spec.Ports[0].Port = 8080 })
		byHand := s.createService(t, p.app, p.hand, func(svc *corev1.Service) { svc.Spec.Selector = nil })
		for _, suffix := range []string{"a", "b"} {
			s.createSlice(t, byHand, suffix)
		}
	}
	for _, s := range p.sides() {
		s.waitRolledOut(t, p.app)
	}
}

func (p *pair) sides() []side { return []side{p.east, p.west} }

// registerVM registers an instance as what stands outside of any cluster: by the
// catalog's own API.
func registerVM(t *testing.T, name, address string) {
	t.Helper()
	registration := &api.CatalogRegistration{
		Node: "vm-" + name, Address: address,
		Service: &api.AgentService{ID: name, Service: name, Port: 8080},
		Check:   &api.AgentCheck{CheckID: name, ServiceID: name, Status: api.HealthPassing},
	}
	if _, err := fleet.consul[0].Catalog().Register(registration, new(api.WriteOptions).WithContext(bounded(t))); err != nil {
		t.Fatal(err)
	}
}

func forgetVM(t *testing.T, name string) {
	t.Helper()
	gone := &api.CatalogDeregistration{Node: "vm-" + name}
	if _, err := fleet.consul[0].Catalog().Deregister(gone, new(api.WriteOptions).WithContext(bounded(t))); err != nil {
		t.Error(err)
	}
}

// of is whether an entry is the side's.
func (s side) of(one standing) bool { return one.Cluster == s.lab.ClusterID() }

// virtualNodes starts the names of the virtual nodes with the side's Services.
func (s side) virtualNodes() string { return "fairway-" + s.lab.ClusterID() + "-services-" }
