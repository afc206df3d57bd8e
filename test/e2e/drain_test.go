package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"fairway.dev/fairway/internal/rpc/katalogsync"
	"fairway.dev/fairway/internal/rpc/node"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// TestDrainLosesNoRequest: a pod that is deleted under load gets SIGTERM only
// after the servers have dropped it, and no client notices, with the gate as a
// native sidecar and as an ordinary container.
func TestDrainLosesNoRequest(t *testing.T) {
	for _, kind := range []workload.Drain{workload.NativeSidecar, workload.ClassicSidecar} {
		t.Run(string(kind), func(t *testing.T) {
			app := fresh(t, workload.App{Name: "drain-" + string(kind), Replicas: 2, Drain: kind})
			pods := deployReady(t, app)
			client := startLoad(t, app.Name)
			waitLoad(t, client, 300)
			drained(t, pods, pods.Pods()[0])
			waitRolledOut(t, app)
			waitLoad(t, client, 300)
			stopLoad(t, client)
		})
	}
}

// TestI2DrainWithoutTheAPIServer: an agent that is cut off from the API server
// never hears of the deletion; the pod itself tells it.
func TestI2DrainWithoutTheAPIServer(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "cut-off", Replicas: 2, Drain: workload.NativeSidecar}
	pods := deployReady(t, app)
	client := startLoad(t, app.Name)
	waitLoad(t, client, 300)

	undo := apiFault(t, "403")
	waitLied(t, "403", 0)
	drained(t, pods, pods.Pods()[0])
	waitLoad(t, client, 300)
	stopLoad(t, client)
	undo()
	waitRolledOut(t, app)
}

// TestI7DrainThatIsNotConfirmedSaysSo: without Consul's servers the pod stops
// at its deadline, and an Event says what it was waiting for.
func TestI7DrainThatIsNotConfirmedSaysSo(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "unconfirmed", Replicas: 1, Drain: workload.NativeSidecar}
	pods := deployReady(t, app)
	pod := pods.Pods()[0]
	back := stopConsulServers(t)
	stopped := stopsAt(t, pod)
	began := time.Now()
	remove(t, pod)
	took := (<-stopped).Sub(began)
	if took < 15*time.Second || took > 28*time.Second {
		t.Errorf("the app was stopped after %s; want about the drain's 20s, within the pod's grace of 30s", took)
	}
	message := waitEvent(t, pod, "DrainNotConfirmed")
	if !strings.Contains(message, app.Name) {
		t.Errorf("Event %q does not name the service", message)
	}
	t.Logf("stopped after %s; Event: %s", took.Round(time.Millisecond), message)
	back()
	waitRolledOut(t, app)
}

// TestI8TokensOfTheAPIServer: with tokens that the API server has made, a pod
// can take itself out of service, and nobody else can.
func TestI8TokensOfTheAPIServer(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "tokens", Replicas: 2}
	pods := deployReady(t, app).Pods()
	mine, other := pods[0], pods[1]
	if mine.Node == other.Node {
		t.Fatalf("both pods are on %s", mine.Node)
	}
	_, before := lookUp(t, app.Name)
	for name, test := range map[string]struct{ token, want string }{
		"of a pod on another node": {token(t, app.Namespace, "fairway", &other), "it is of a pod of node"},
		"for the API server":       {token(t, app.Namespace, "https://kubernetes.default.svc.cluster.local", &mine), "and not for"},
		"bound to no pod":          {token(t, app.Namespace, "fairway", nil), "it is not bound to a pod"},
		"none":                     {"", "it is no signed token"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := askDrain(t, mine.Node, test.token)
			if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; want Unauthenticated, %q", err, test.want)
			}
		})
	}
	if found, now := lookUp(t, app.Name); now != before || len(found) != 2 {
		t.Errorf("%d entries at index %d; want 2 at %d", len(found), now, before)
	}

	said, err := askDrain(t, mine.Node, token(t, app.Namespace, "fairway", &mine))
	if err != nil || !said.GetDone() {
		t.Fatalf("with its own token: %v, %v", said, err)
	}
	t.Logf("%s: %s", said.GetReason(), said.GetMessage())
	found := entries(t, app.Name)
	if a, b := found[mine.UID].Checks.AggregatedStatus(), found[other.UID].Checks.AggregatedStatus(); a != "critical" || b != "passing" {
		t.Errorf("the pod that asked is %s, the other %s", a, b)
	}
}

// TestKatalogRPC: an old sidecar, which calls from its pod, is told what the
// servers return.
func TestKatalogRPC(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "old-sidecar", Replicas: 2, Ungated: true}
	pods := deployReady(t, app).Pods()
	inside, err := fleet.lab.Pod(pods[0].Node, netip.MustParseAddr(pods[0].IP))
	if err != nil {
		t.Fatal(err)
	}
	conn := dialGRPC(t, inside.Dial, fleet.lab.Host(pods[0].Node).Addr.String()+":"+workload.KatalogPort)
	client := katalogsync.NewKatalogSyncClient(conn)
	ctx := bounded(t)

	if _, err := client.Register(ctx, &katalogsync.RegisterQuery{Namespace: app.Namespace, PodName: pods[0].Name}); err != nil {
		t.Errorf("register: %v", err)
	}
	if e := entries(t, app.Name)[pods[0].UID]; e == nil || e.Checks.AggregatedStatus() != "passing" {
		t.Errorf("registered, and the servers have %+v", e)
	}
	began := time.Now()
	if _, err := client.Deregister(ctx, &katalogsync.DeregisterQuery{Namespace: app.Namespace, PodName: pods[0].Name}); err != nil {
		t.Errorf("deregister: %v", err)
	}
	t.Logf("deregistered after %s", time.Since(began).Round(time.Millisecond))
	if e := entries(t, app.Name)[pods[0].UID]; e == nil || e.Checks.AggregatedStatus() != "critical" {
		t.Errorf("deregistered, and the servers have %+v", e)
	}

	// From elsewhere the same question is refused.
	until(t, "the other pod is passing", func(context.Context) (bool, string, error) {
		e := entries(t, app.Name)[pods[1].UID]
		return e != nil && e.Checks.AggregatedStatus() == "passing", fmt.Sprint(e), nil
	})
	stranger := dialGRPC(t, fleet.lab.Host("client").Dial, fleet.lab.Host(pods[1].Node).Addr.String()+":"+workload.KatalogPort)
	_, err = katalogsync.NewKatalogSyncClient(stranger).Deregister(ctx, &katalogsync.DeregisterQuery{Namespace: app.Namespace, PodName: pods[1].Name})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("from outside of the pod: %v; want PermissionDenied", err)
	}
	if e := entries(t, app.Name)[pods[1].UID]; e == nil || e.Checks.AggregatedStatus() != "passing" {
		t.Errorf("the other pod is %+v", e)
	}
}

// settle is what fairway-gate gives clients by default, less the time in which
// the observer hears of what has happened.
const settle = 900 * time.Millisecond

// drained deletes a pod and fails unless its app was stopped after the servers
// had dropped it and clients had their time, and well before its grace had
// ended.
func drained(t *testing.T, pods *timeline.Recorder, pod timeline.Pod) {
	t.Helper()
	stopped := stopsAt(t, pod)
	began := time.Now()
	remove(t, pod)
	var now timeline.Pod
	waitPods(t, pods, "the pod is gone", func(pods []timeline.Pod) bool {
		for _, now = range pods {
			if now.UID == pod.UID {
				return now.Reached(timeline.Deleted)
			}
		}
		return false
	})
	at := <-stopped
	out, gone := now.At[timeline.Out], now.At[timeline.Deleted]
	if out.IsZero() || at.Sub(out) < settle {
		t.Errorf("the app got SIGTERM at %s, and the servers dropped it at %s; want %s between them", at, out, settle)
	}
	if took := gone.Sub(began); took > 15*time.Second {
		t.Errorf("the pod was gone after %s: something waited for its grace to end", took)
	}
	t.Logf("dropped by the servers after %s, SIGTERM after %s, gone after %s", out.Sub(began).Round(time.Millisecond),
		at.Sub(began).Round(time.Millisecond), gone.Sub(began).Round(time.Millisecond))
}

func remove(t *testing.T, pod timeline.Pod) {
	t.Helper()
	if err := fleet.kube.CoreV1().Pods(pod.Namespace).Delete(bounded(t), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatalf("delete pod %s: %v", pod.Name, err)
	}
}

// stopsAt brings the time at which the pod's app gets SIGTERM, in its own
// words.
func stopsAt(t *testing.T, pod timeline.Pod) <-chan time.Time {
	t.Helper()
	log, err := fleet.kube.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: "sample", Follow: true}).Stream(bounded(t))
	if err != nil {
		t.Fatalf("follow the log of pod %s: %v", pod.Name, err)
	}
	at := make(chan time.Time, 1)
	go func() {
		defer log.Close()
		defer close(at) // the zero time: it never said so
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var line struct {
				Time time.Time
				Msg  string
			}
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "asked to stop" {
				at <- line.Time
				return
			}
		}
	}()
	return at
}

// token asks the API server for a token of the namespace's default service
// account, bound to the pod if there is one.
func token(t *testing.T, namespace, audience string, pod *timeline.Pod) string {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{audience}}}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: types.UID(pod.UID)}
	}
	made, err := fleet.kube.CoreV1().ServiceAccounts(namespace).CreateToken(bounded(t), "default", request, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("make a token: %v", err)
	}
	return made.Status.Token
}

// askDrain calls Drain of the node's agent, and returns what it said last.
func askDrain(t *testing.T, nodeName, token string) (last *node.Progress, err error) {
	t.Helper()
	conn := dialGRPC(t, fleet.lab.Host(nodeName).Dial, "127.0.0.1:9981")
	ctx := metadata.AppendToOutgoingContext(bounded(t), "authorization", "Bearer "+token)
	stream, err := node.NewNodeClient(conn).Drain(ctx, &node.DrainRequest{})
	for err == nil {
		var said *node.Progress
		if said, err = stream.Recv(); err == nil {
			last = said
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return last, err
}

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

func dialGRPC(t *testing.T, dial dialer, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, "tcp", addr) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
