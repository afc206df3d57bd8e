package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// testFaults puts each fault in force on a running lab and undoes it: the probe works before, does
// not while the fault is in force, and works again after.
func testFaults(t *testing.T, lab *Cluster) {
	consul3 := func(ctx context.Context) error {
		_, err := get(ctx, lab.Host(clientHost), consulURL(lab, "consul-3", "/v1/status/leader"), "")
		return err
	}
	agent := func(ctx context.Context) error {
		_, err := get(ctx, lab.Host(clientHost), consulURL(lab, "n1", "/v1/status/leader"), "")
		return err
	}
	fairwaysToken := func(ctx context.Context) error {
		_, err := get(ctx, lab.Host(clientHost), consulURL(lab, "consul-1", "/v1/acl/token/self"), lab.ConsulToken(AgentToken))
		return err
	}
	for _, tc := range []struct {
		name  string
		probe func(context.Context) error
		fault func(context.Context) (Undo, error)
	}{
		{"kill", agent, func(ctx context.Context) (Undo, error) { return lab.Kill(ctx, "n1/consul") }},
		{"stop", agent, func(ctx context.Context) (Undo, error) { return lab.Stop(ctx, "n1/consul") }},
		{"pause", consul3, func(ctx context.Context) (Undo, error) { return lab.Pause(ctx, "consul-3/consul") }},
		{"cut link", consul3, func(ctx context.Context) (Undo, error) { return lab.CutLink(ctx, "consul-3") }},
		{"partition", consul3, func(ctx context.Context) (Undo, error) {
			return lab.Partition(ctx, []string{clientHost, "cp"}, []string{"consul-2", "consul-3"})
		}},
		{"revoke token", fairwaysToken, func(ctx context.Context) (Undo, error) {
			return lab.RevokeToken(ctx, lab.ConsulAccessor(AgentToken))
		}},
		{"wipe Consul agent", registered(t, lab), func(ctx context.Context) (Undo, error) {
			return lab.WipeConsulAgent(ctx, "n2")
		}},
		{"kill node", agent, func(ctx context.Context) (Undo, error) { return lab.KillNode(ctx, "n1") }},
		{"API answers 403", serviceAccount(t, lab), func(ctx context.Context) (Undo, error) { return lab.APIFault(ctx, "403") }},
		{"API hangs", serviceAccount(t, lab), func(ctx context.Context) (Undo, error) { return lab.APIFault(ctx, "hang") }},
		{"kubelet answers 500", kubeletPods(t, lab), func(ctx context.Context) (Undo, error) {
			return lab.KubeletFault(ctx, "n1", "500")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			eventually(t, "the probe to work", tc.probe)
			undo, err := tc.fault(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = undo(context.WithoutCancel(t.Context())) })
			eventually(t, "the fault to show", func(ctx context.Context) error {
				if tc.probe(ctx) == nil {
					return errors.New("the probe works")
				}
				return nil
			})
			if err := undo(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the probe to work again", tc.probe)
			if err := undo(t.Context()); err != nil {
				t.Errorf("undo for the second time: %v", err)
			}
		})
	}
	t.Run("restart", func(t *testing.T) { testRestart(t, lab) })
	t.Run("wipe Consul servers", func(t *testing.T) { testWipe(t, lab, fairwaysToken) })
	t.Run("delay link", func(t *testing.T) { testDelay(t, lab) })
}

// testWipe: wiped servers have no entry, a lower index, all members and the lab's tokens.
func testWipe(t *testing.T, lab *Cluster, fairwaysToken func(context.Context) error) {
	entry := &api.CatalogRegistration{Node: "kept", Address: "198.18.0.99", Service: &api.AgentService{Service: "kept"}}
	if _, err := lab.Consul("consul-1").Catalog().Register(entry, nil); err != nil {
		t.Fatal(err)
	}
	_, before, err := lab.Consul("consul-1").Catalog().Service("kept", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.WipeConsulServers(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, after, err := lab.Consul("consul-1").Catalog().Service("kept", "", &api.QueryOptions{RequireConsistent: true})
	if err != nil || len(found) > 0 || after.LastIndex >= before.LastIndex {
		t.Errorf("%d entries at index %d, %v; want none, below index %d", len(found), after.LastIndex, err, before.LastIndex)
	}
	eventually(t, "all members", lab.consulComplete)
	eventually(t, "the token of Fairway", fairwaysToken)
}

// testRestart ends and starts a process of each kind; each is back when it takes connections. The
// control plane's are killed, for a graceful end of the API server waits for its clients.
func testRestart(t *testing.T, lab *Cluster) {
	for _, id := range []string{
		"cp/etcd", "cp/kube-apiserver", "cp/kube-controller-manager", "cp/kube-scheduler", "cp/faultproxy",
		"consul-1/consul", "n2/consul", "n2/containerd", "n2/kubelet", "n2/kube-proxy", "n2/faultproxy",
	} {
		before, err := lab.Process(id)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(id, controlPlane+"/") {
			start, killErr := lab.Kill(t.Context(), id)
			if killErr != nil {
				t.Fatal(killErr)
			}
			err = start(t.Context())
		} else {
			err = lab.Restart(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
		after, err := lab.Process(id)
		if err != nil {
			t.Fatal(err)
		}
		if before.Alive() || !after.Alive() {
			t.Errorf("%s: process %d is %s, process %d is %s", id, before.PID, before.State(), after.PID, after.State())
		}
	}
}

// testDelay: either packets are late, or the kernel cannot and the error says so.
func testDelay(t *testing.T, lab *Cluster) {
	const delay = 200 * time.Millisecond
	undo, err := lab.DelayLink(t.Context(), "consul-1", delay)
	if err != nil {
		if !strings.Contains(err.Error(), "netem") {
			t.Error(err)
		}
		return
	}
	defer func() { _ = undo(context.WithoutCancel(t.Context())) }()
	begin := time.Now()
	conn, err := lab.Host(clientHost).Dial(t.Context(), "tcp", netip.AddrPortFrom(lab.Host("consul-1").Addr, consulHTTPPort).String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if took := time.Since(begin); took < delay {
		t.Errorf("a connection took %s over a link with a delay of %s", took, delay)
	}
	if err := undo(t.Context()); err != nil {
		t.Error(err)
	}
}

func consulURL(lab *Cluster, host, path string) string {
	return fmt.Sprintf("http://%s:%d%s", lab.Host(host).Addr, consulHTTPPort, path)
}

// registered registers a service with the agent of n2 and returns a probe that asks the agent for it.
func registered(t *testing.T, lab *Cluster) func(context.Context) error {
	t.Helper()
	agent := lab.Consul("n2").Agent()
	if err := agent.ServiceRegister(&api.AgentServiceRegistration{Name: "wiped", Port: 80}); err != nil {
		t.Fatal(err)
	}
	return func(context.Context) error {
		_, _, err := agent.Service("wiped", nil)
		return err
	}
}

// serviceAccount returns a probe of the API server as a pod of the default service account sees it:
// through the fault proxy, with a token. The answer is that it may not list nodes; the fault's own
// refusals say who they come from.
func serviceAccount(t *testing.T, lab *Cluster) func(context.Context) error {
	t.Helper()
	kube, err := kubernetes.NewForConfig(&rest.Config{
		Host:            fmt.Sprintf("https://%s:%d", lab.serviceAPI(), 443),
		BearerToken:     token(t, lab),
		TLSClientConfig: rest.TLSClientConfig{CAFile: lab.cert("ca")},
		Dial:            lab.Host("n1").Dial,
		Timeout:         2 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) error {
		_, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "system:serviceaccount:default:default") {
			return nil
		}
		return fmt.Errorf("the API server answers %w", err)
	}
}

// kubeletPods returns the same probe of the kubelet of n1, on its well-known port.
func kubeletPods(t *testing.T, lab *Cluster) func(context.Context) error {
	t.Helper()
	kube, err := kubernetes.NewForConfig(&rest.Config{
		Host:            fmt.Sprintf("https://127.0.0.1:%d", kubeletProxyPort),
		BearerToken:     token(t, lab),
		TLSClientConfig: rest.TLSClientConfig{CAFile: lab.cert("ca")},
		Dial:            lab.Host("n1").Dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context) error {
		body, err := kube.RESTClient().Get().AbsPath("/pods").DoRaw(ctx)
		if apierrors.IsForbidden(err) && strings.Contains(string(body), "system:serviceaccount:default:default") {
			return nil
		}
		return fmt.Errorf("the kubelet answers %q, %w", body, err)
	}
}

func token(t *testing.T, lab *Cluster) string {
	t.Helper()
	accounts := client(t, lab).CoreV1().ServiceAccounts(metav1.NamespaceDefault)
	request, err := accounts.CreateToken(t.Context(), "default", new(authenticationv1.TokenRequest), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}
