package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/images"
)

// within bounds every wait of these tests.
const within = 60 * time.Second

// TestLab brings a lab up, looks at it from all sides, breaks and mends it, and takes it down as if
// the run that made it had been killed. It is one test because a lab is too dear to make twice.
func TestLab(t *testing.T) {
	owned := bringUp(t, Default("labtest"))
	lab := owned
	t.Run("Up refuses a lab that runs", func(t *testing.T) {
		if _, err := Up(t.Context(), Default("labtest"), t.Output()); !errors.Is(err, ErrRunning) {
			t.Errorf("second Up: %v, want %v", err, ErrRunning)
		}
	})
	t.Run("UpOwned refuses a lab whose owner is at work", func(t *testing.T) {
		if _, err := UpOwned(t.Context(), Default("labtest"), t.Output()); !errors.Is(err, ErrRunning) {
			t.Errorf("second UpOwned: %v, want %v", err, ErrRunning)
		}
	})
	t.Run("another process opens it", func(t *testing.T) { lab = testOpen(t) })
	t.Run("nodes", func(t *testing.T) { testNodes(t, lab) })
	t.Run("pod", func(t *testing.T) { testPod(t, lab) })
	t.Run("Consul", func(t *testing.T) { testConsul(t, lab, 2) })
	t.Run("faults", func(t *testing.T) { testFaults(t, lab) })
	t.Run("no way out", func(t *testing.T) { testNoWayOut(t, lab) })
	t.Run("a second lab beside it", func(t *testing.T) {
		topology := Topology{Name: "labtest2", Nodes: 1, Kubernetes: "1.37"}
		killed := bringUp(t, topology)
		if err := killed.owner.Close(); err != nil { // as the end of its process does
			t.Fatal(err)
		}
		other := bringUp(t, topology) // finds the first one running, and replaces it
		testConsul(t, other, 0)
		if err := other.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
		nothingLeft(t, other.Name)
		testConsul(t, lab, 2)
	})
	t.Run("down", func(t *testing.T) { testDown(t, lab) })
	runtime.KeepAlive(owned) // and with it the lock
}

// TestRemnants: a lab of which only a namespace, a process in it and a cgroup are left is found by its
// name and removed.
func TestRemnants(t *testing.T) {
	const name = "remnants"
	host := &Host{Namespace: Topology{Name: name}.namespace("n1")}
	t.Cleanup(func() {
		if err := Down(context.WithoutCancel(t.Context()), name); err != nil {
			t.Error(err)
		}
	})
	if err := ipBatch(t.Context(), "", "netns add "+host.Namespace+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := makeCgroup(host.Namespace); err != nil {
		t.Fatal(err)
	}
	hierarchies, err := cgroupHierarchies()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(hierarchies[0], host.Namespace, "kubepods"), 0o755); err != nil {
		t.Fatal(err)
	}
	orphan := host.Command(t.Context(), "sleep", "600")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = orphan.Wait(); close(exited) }()
	eventually(t, "the orphan to be inside", func(context.Context) error {
		namespaces := identifyNamespaces([]string{host.Namespace}, "/nowhere")
		if inside, err := processesIn(namespaces); err != nil || len(inside) != 1 {
			return fmt.Errorf("%d processes inside, %w", len(inside), err)
		}
		return nil
	})
	names, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(names, name) {
		t.Errorf("labs found: %v, without %s", names, name)
	}
	if err := Down(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	<-exited
	nothingLeft(t, name)
}

func bringUp(t *testing.T, topology Topology) *Cluster {
	t.Helper()
	lab, err := UpOwned(t.Context(), topology, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Down(context.WithoutCancel(t.Context()), topology.Name); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func testOpen(t *testing.T) *Cluster {
	lab, err := Open("labtest")
	if err != nil {
		t.Fatal(err)
	}
	processes, err := lab.Processes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if p.State() != "running" {
			t.Errorf("%s is %s; the end of its log:\n%s", p.ID(), p.State(), lab.tail(p, 5))
		}
	}
	// Four on the control plane with the proxy five, three servers of Consul, five on each node.
	if want := 5 + 3 + 2*5; len(processes) != want {
		t.Errorf("%d processes are recorded, want %d", len(processes), want)
	}
	return lab
}

func testNodes(t *testing.T, lab *Cluster) {
	kube := client(t, lab)
	list, err := kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
		if err := nodeReady(&list.Items[i]); err != nil {
			t.Error(err)
		}
		if version := list.Items[i].Status.NodeInfo.KubeletVersion; !strings.HasPrefix(version, "v1.37.") {
			t.Errorf("kubelet of %s is %s", list.Items[i].Name, version)
		}
	}
	if diff := cmp.Diff(lab.Nodes(), names); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}

// testPod runs a pod and calls it from outside the cluster.
func testPod(t *testing.T, lab *Cluster) {
	set, err := images.Ensure(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.LoadImage(t.Context(), set.Sample); err != nil {
		t.Fatal(err)
	}
	kube := client(t, lab)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "sample"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "sample", Image: images.SampleRef, ImagePullPolicy: corev1.PullNever,
			Env: []corev1.EnvVar{{Name: "POD_NAME", Value: "sample"}},
		}}},
	}
	pods := kube.CoreV1().Pods(metav1.NamespaceDefault)
	if _, err := pods.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pod's answer", func(ctx context.Context) error {
		pod, err := pods.Get(ctx, "sample", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if pod.Status.PodIP == "" {
			return fmt.Errorf("pod is %s", pod.Status.Phase)
		}
		answer, err := get(ctx, lab.Host(clientHost), "http://"+pod.Status.PodIP+":8080/", "")
		if err == nil && !strings.Contains(answer, "sample") {
			err = fmt.Errorf("it answers %q", answer)
		}
		return err
	})
	if err := lab.KillContainer(t.Context(), node(t, pods.Get), "sample"); err != nil {
		t.Error(err)
	}
	eventually(t, "a restart of the container", func(ctx context.Context) error {
		pod, err := pods.Get(ctx, "sample", metav1.GetOptions{})
		if err == nil && (len(pod.Status.ContainerStatuses) != 1 || pod.Status.ContainerStatuses[0].RestartCount == 0) {
			err = errors.New("no restart yet")
		}
		return err
	})
}

func node(t *testing.T, get func(context.Context, string, metav1.GetOptions) (*corev1.Pod, error)) string {
	t.Helper()
	pod, err := get(t.Context(), "sample", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod.Spec.NodeName
}

// testConsul checks that the servers and that many client agents are alive to each other.
func testConsul(t *testing.T, lab *Cluster, agents int) {
	members, err := lab.Consul("consul-1").Agent().MembersOpts(api.MembersOpts{Segment: api.AllSegments})
	if err != nil {
		t.Fatal(err)
	}
	const alive = 1 // serf's StatusAlive
	got := map[string]int{}
	for _, m := range members {
		if m.Status == alive {
			got[m.Tags["role"]]++
		}
	}
	want := map[string]int{"consul": 3}
	if agents > 0 {
		want["node"] = agents
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("members alive, by role (-want +got):\n%s", diff)
	}
	if _, err := lab.Consul("consul-2").Status().Leader(); err != nil {
		t.Error(err)
	}
}

// testNoWayOut: a lab cannot reach the machine's own network.
func testNoWayOut(t *testing.T, lab *Cluster) {
	for _, h := range lab.hosts {
		conn, err := h.Dial(t.Context(), "tcp", "192.0.2.1:80")
		if err == nil {
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "network is unreachable") {
			t.Errorf("dial from %s to an outside address: %v, want network is unreachable", h.Name, err)
		}
	}
}

// testDown takes the lab down in the worst state: its record and that of a process are lost, and
// containerd, which alone knows the containers, was killed.
func testDown(t *testing.T, lab *Cluster) {
	ran := everythingInside(t, lab)
	if _, err := lab.Kill(t.Context(), "n1/containerd"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{lab.path(stateFile), lab.path("n2", "kubelet"+recordSuffix)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	names, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(names, lab.Name) {
		t.Errorf("labs found: %v, without %s", names, lab.Name)
	}
	if err := Down(t.Context(), lab.Name); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, lab.Name)
	for _, p := range ran {
		if p.Alive() {
			t.Errorf("process %d (%s) outlived the lab", p.PID, p.Name)
		}
	}
	if _, err := Open(lab.Name); !errors.Is(err, ErrNotFound) {
		t.Errorf("open after down: %v, want %v", err, ErrNotFound)
	}
}

// everythingInside lists all processes in the lab's namespaces, the pods' included.
func everythingInside(t *testing.T, lab *Cluster) []*Process {
	t.Helper()
	names, err := labNamespaces(lab.Name)
	if err != nil {
		t.Fatal(err)
	}
	handles, err := processesIn(identifyNamespaces(names, lab.path()))
	if err != nil {
		t.Fatal(err)
	}
	var list []*Process
	programs := map[string]int{}
	for _, h := range handles {
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", h.Pid))
		stat, err := readStat(h.Pid)
		if err != nil {
			continue // has just ended
		}
		programs[filepath.Base(program)]++
		list = append(list, &Process{Name: program, PID: h.Pid, Started: stat.started})
	}
	for _, want := range []string{"kubelet", "containerd-shim-runc-v2", "pause", "sample"} {
		if programs[want] == 0 {
			t.Errorf("no %s is found in the lab's namespaces: %v", want, programs)
		}
	}
	return list
}

// nothingLeft fails if the machine still shows any trace of the named lab.
func nothingLeft(t *testing.T, name string) {
	t.Helper()
	dir := filepath.Join(StateDir, name)
	for _, pattern := range []string{
		dir,
		filepath.Join(namespaceDir, namespacePrefix+name+"-*"),
		filepath.Join(cgroupMount, "*", namespacePrefix+name+"-*"),
		filepath.Join(cgroupMount, namespacePrefix+name+"-*"),
		"/var/lib/cni/*/" + namespacePrefix + name + "-*",
	} {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			t.Errorf("left behind: %v (error %v)", found, err)
		}
	}
	if mounts := mountsBelow(dir); len(mounts) > 0 {
		t.Errorf("left mounted: %v", mounts)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commands {
		if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), dir+"/") {
			t.Errorf("left running: %s", strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	links, err := filepath.Glob("/var/log/containers/*.log")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			t.Errorf("left behind: link %s", link)
		}
	}
}

func client(t *testing.T, lab *Cluster) *kubernetes.Clientset {
	t.Helper()
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	return kube
}

// eventually waits for a condition and fails with what was missing.
func eventually(t *testing.T, what string, ready func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := await(ctx, what, ready); err != nil {
		t.Fatal(err)
	}
}

// get asks for a page from inside a host, on a connection of its own.
func get(ctx context.Context, from *Host, url, token string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("X-Consul-Token", token)
	client := http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}
