package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/workload"
)

// side is one of two Kubernetes clusters that share a Consul.
type side struct {
	*cluster.Cluster
	id   string // of the cluster in Consul
	kube *kubernetes.Clientset
	app  workload.App
}

// TestTwoClusters brings up two Kubernetes clusters with one Consul and the same node names, and in each
// a Fairway that registers the same service.
func TestTwoClusters(t *testing.T) {
	east := bringUp(t, "lab", cluster.Topology{Name: "labeast", Nodes: 1, Kubernetes: "1.37", DNS: true})
	west := bringUp(t, "labwest", cluster.Topology{Name: "labwest", Nodes: 1, Kubernetes: "1.37", DNS: true, Join: "labeast"})
	sides := []*side{east, west}

	t.Run("a third does not fit", func(t *testing.T) {
		_, err := cluster.Up(t.Context(), cluster.Joining("labthird", "labeast"), t.Output())
		if err == nil || !strings.Contains(err.Error(), "lab labwest has") {
			t.Errorf("third lab: %v, want that labwest has joined", err)
		}
		_, err = cluster.Up(t.Context(), cluster.Joining("labthird", "labwest"), t.Output())
		if err == nil || !strings.Contains(err.Error(), "has joined lab labeast itself") {
			t.Errorf("lab that joins the second: %v, want that it is not the first", err)
		}
	})
	for _, s := range sides {
		s.install(t)
	}
	t.Run("network", func(t *testing.T) { oneNetwork(t, east, west) })
	t.Run("same service", func(t *testing.T) { sameService(t, east, west) })
	t.Run("faults", func(t *testing.T) { ownFaults(t, east, west) })
	t.Run("names", func(t *testing.T) { byName(t, east, west) })
	t.Run("login", func(t *testing.T) {
		for _, s := range sides {
			if err := workload.LogIn(t.Context(), s.Cluster, s.kube, workload.ConsulServers); err != nil {
				t.Error(err)
			}
		}
		sameService(t, east, west)
	})
	t.Run("one leaves", func(t *testing.T) { oneLeaves(t, east, west) })
	t.Run("the first takes the second along", func(t *testing.T) {
		if err := east.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, s := range sides {
			cluster.NothingLeft(t, s.Name)
		}
	})
}

func bringUp(t *testing.T, id string, topology cluster.Topology) *side {
	t.Helper()
	lab, err := cluster.UpOwned(t.Context(), topology, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return &side{
		Cluster: lab, id: id, kube: kube,
		app: workload.App{Namespace: metav1.NamespaceDefault, Name: "shared", Replicas: 1, LeaveSeconds: 1, ClusterDNS: true},
	}
}

// install installs Fairway and starts the app.
func (s *side) install(t *testing.T) {
	t.Helper()
	if err := workload.InstallFairway(t.Context(), s.Cluster, workload.ConsulServers, t.Output()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.kube.AppsV1().Deployments(s.app.Namespace).Create(t.Context(), s.app.Deployment(), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// pod is the app's pod once it is Ready.
func (s *side) pod(t *testing.T) corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	cluster.Eventually(t, "the pod of "+s.Name, func(ctx context.Context) error {
		deployment, err := s.kube.AppsV1().Deployments(s.app.Namespace).Get(ctx, s.app.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := s.kube.CoreV1().Pods(s.app.Namespace).List(ctx, metav1.ListOptions{LabelSelector: s.app.Selector()})
		if err != nil {
			return err
		}
		if len(pods.Items) != 1 || deployment.Status.ReadyReplicas != 1 {
			return fmt.Errorf("%d pods, %d Ready", len(pods.Items), deployment.Status.ReadyReplicas)
		}
		pod = pods.Items[0]
		return nil
	})
	return pod
}

// oneNetwork: every pod reaches the pods of the other cluster and the Consul servers, and so does the
// other cluster's client host.
func oneNetwork(t *testing.T, east, west *side) {
	for _, way := range []struct{ from, to *side }{{east, west}, {west, east}} {
		there := way.to.pod(t)
		pod, err := way.from.Pod("n1", netip.MustParseAddr(way.from.pod(t).Status.PodIP))
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range []*cluster.Host{pod, way.from.Host("client")} {
			answer, err := cluster.Get(t.Context(), from, fmt.Sprintf("http://%s:8080/", there.Status.PodIP), "")
			if err != nil || strings.TrimSpace(answer) != there.Name {
				t.Errorf("%s of %s calls the pod of %s: %q, %v", from.Name, way.from.Name, way.to.Name, answer, err)
			}
			leader := fmt.Sprintf("http://%s:8500/v1/status/leader", way.from.Host("consul-2").Addr)
			if _, err := cluster.Get(t.Context(), from, leader, ""); err != nil {
				t.Errorf("%s of %s calls a Consul server: %v", from.Name, way.from.Name, err)
			}
		}
	}
}

// ownFaults: a fault meets the cluster that it is asked of, though the other has hosts of the same names.
func ownFaults(t *testing.T, east, west *side) {
	ask := func(ctx context.Context, from *side, url string) error {
		_, err := cluster.Get(ctx, from.Host("client"), url, "")
		return err
	}
	app := func(s *side) string { return fmt.Sprintf("http://%s:8080/", s.pod(t).Status.PodIP) }
	inEast, inWest := app(east), app(west)
	for _, fault := range []struct {
		name  string
		begin func(context.Context) (cluster.Undo, error)
		lost  string // what the client host of the second cluster cannot reach any more
	}{
		{"cut", func(ctx context.Context) (cluster.Undo, error) { return west.CutLink(ctx, "n1") }, inWest},
		{"partition", func(ctx context.Context) (cluster.Undo, error) {
			return west.Partition(ctx, []string{"client"}, []string{"consul-1"})
		}, fmt.Sprintf("http://%s:8500/v1/status/leader", west.Host("consul-1").Addr)},
	} {
		undo, err := fault.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if ask(t.Context(), west, fault.lost) == nil {
			t.Errorf("%s: nothing is lost", fault.name)
		}
		if err := ask(t.Context(), east, inEast); err != nil {
			t.Errorf("%s: in the other cluster: %v", fault.name, err)
		}
		if err := undo(t.Context()); err != nil {
			t.Fatal(err)
		}
		cluster.Eventually(t, "the end of the fault", func(ctx context.Context) error { return ask(ctx, west, fault.lost) })
	}
}

// entry is what clients are told of an instance.
type entry struct{ Node, Address string }

// listed is what the servers tell clients of the app, by virtual node, with the index of the last write.
func listed(ctx context.Context, s *side) (map[entry]uint64, error) {
	list, _, err := s.ConsulServers()[0].Health().Service(s.app.Name, "", true, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	entries := map[entry]uint64{}
	for _, e := range list {
		entries[entry{e.Node.Node, e.Service.Address}] = e.Service.ModifyIndex
	}
	return entries, nil
}

func (s *side) entry(t *testing.T) entry {
	t.Helper()
	return entry{catalog.NodeName(s.id, "n1"), s.pod(t).Status.PodIP}
}

// sameService: Consul has the pod of each cluster, each under its cluster's own virtual node.
func sameService(t *testing.T, east, west *side) {
	want := []entry{east.entry(t), west.entry(t)}
	cluster.Eventually(t, "an entry of each cluster", func(ctx context.Context) error {
		got, err := listed(ctx, west)
		if err != nil {
			return err
		}
		byNode := func(a, b entry) int { return strings.Compare(a.Node, b.Node) }
		if diff := cmp.Diff(slices.SortedFunc(slices.Values(want), byNode), slices.SortedFunc(maps.Keys(got), byNode)); diff != "" {
			return fmt.Errorf("entries (-want +got):\n%s", diff)
		}
		return nil
	})
}

// oneLeaves: what leaves one cluster takes nothing of the other's with it.
func oneLeaves(t *testing.T, east, west *side) {
	before, err := listed(t.Context(), east)
	if err != nil {
		t.Fatal(err)
	}
	stays := east.entry(t)
	if err := west.kube.AppsV1().Deployments(west.app.Namespace).Delete(t.Context(), west.app.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	want := map[entry]uint64{stays: before[stays]}
	cluster.Eventually(t, "the entry of the other cluster alone", func(ctx context.Context) error {
		got, err := listed(ctx, east)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("entries and their last writes (-want +got):\n%s", diff)
		}
		return nil
	})
}
