package e2e

import (
	"fmt"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/lab/workload"
)

// TestI8AgentPatchesItsOwnNodeOnly: with the very token that an agent has, one
// who stole it can set Fairway's conditions on pods of that node, and nothing
// else of any pod.
func TestI8AgentPatchesItsOwnNodeOnly(t *testing.T) {
	app := workload.App{Namespace: namespace(t), Name: "guarded", Replicas: 2, Ungated: true}
	deployReady(t, app)
	list, err := fleet.kube.CoreV1().Pods(app.Namespace).List(bounded(t), metav1.ListOptions{LabelSelector: app.Selector()})
	if err != nil {
		t.Fatal(err)
	}
	byNode := map[string]*corev1.Pod{}
	for i, p := range list.Items {
		byNode[p.Spec.NodeName] = &list.Items[i]
	}
	nodes := fleet.lab.Nodes()
	own, other := byNode[nodes[0]], byNode[nodes[1]]
	if own == nil || other == nil {
		t.Fatalf("pods on %v, want one on each of %v", byNode, nodes)
	}
	agent := agentClient(t, nodes[0])
	nodeless := tokenClient(t, nil)

	const open = `{"status":{"conditions":[{"type":"fairway.dev/reachable","status":"True","reason":"Test"}]}}`
	tests := []struct {
		name   string
		client *kubernetes.Clientset
		pod    *corev1.Pod
		patch  string
		want   string // part of the refusal; empty if allowed
	}{
		{"the gate", agent, own, open, ""},
		{"what is wrong with annotations", agent, own, `{"status":{"conditions":[{"type":"fairway.dev/annotations-valid","status":"False","reason":"Test"}]}}`, ""},
		{"the gate again", agent, own, strings.ReplaceAll(open, "Test", "Again"), ""},
		{"its conditions taken away", agent, own, `{"status":{"conditions":[{"$patch":"delete","type":"fairway.dev/annotations-valid"}]}}`, ""},
		{"a pod of another node", agent, other, open, "its token is for node " + nodes[0] + ", the pod is on node " + nodes[1]},
		{"a token of no node", nodeless, own, open, "its token is for no node"},
		{"another condition", agent, own, `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`, "these conditions only"},
		{"another's new condition", agent, own, `{"status":{"conditions":[{"type":"example.com/x","status":"True"}]}}`, "these conditions only"},
		{"another condition taken away", agent, own, `{"status":{"conditions":[{"$patch":"delete","type":"Ready"}]}}`, "these conditions only"},
		{"the phase", agent, own, `{"status":{"phase":"Failed"}}`, "these conditions only"},
		{"an address", agent, own, `{"status":{"podIP":"198.18.0.99","podIPs":[{"$patch":"replace"},{"ip":"198.18.0.99"}]}}`, "these conditions only"},
		{"a field taken away", agent, own, `{"status":{"startTime":null}}`, "these conditions only"},
		{"a field that was not there", agent, own, `{"status":{"message":"x"}}`, "these conditions only"},
		{"a label", agent, own, `{"metadata":{"labels":{"app":"bank"}}}`, "metadata"},
		{"an annotation", agent, own, `{"metadata":{"annotations":{"fairway.dev/service-names":"bank"}}}`, "metadata"},
		{"a finalizer", agent, own, `{"metadata":{"finalizers":["example.com/x"]}}`, "metadata"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tt.client.CoreV1().Pods(tt.pod.Namespace).Patch(bounded(t), tt.pod.Name,
				types.StrategicMergePatchType, []byte(tt.patch), metav1.PatchOptions{}, "status")
			got := refusal(err, "fairway-own-node")
			if (err != nil) != (tt.want != "") || !strings.Contains(got, tt.want) {
				t.Errorf("refused with %q (%v), want %q", got, err, tt.want)
			}
		})
	}
	t.Run("others are left alone", func(t *testing.T) {
		_, err := fleet.kube.CoreV1().Pods(other.Namespace).Patch(bounded(t), other.Name,
			types.StrategicMergePatchType, []byte(open), metav1.PatchOptions{}, "status")
		if err != nil {
			t.Error(err)
		}
	})
}

// agentClient speaks with a token as the agent of the node has: bound to its
// pod.
func agentClient(t *testing.T, node string) *kubernetes.Clientset {
	t.Helper()
	pods, err := fleet.kube.CoreV1().Pods(workload.Namespace).List(bounded(t), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=agent", FieldSelector: "spec.nodeName=" + node,
	})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("the agent's pod on %s: %d found, %v", node, len(pods.Items), err)
	}
	return tokenClient(t, &authenticationv1.BoundObjectReference{
		APIVersion: "v1", Kind: "Pod", Name: pods.Items[0].Name, UID: pods.Items[0].UID,
	})
}

// tokenClient speaks as the agents' service account.
func tokenClient(t *testing.T, bound *authenticationv1.BoundObjectReference) *kubernetes.Clientset {
	t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: bound}}
	token, err := fleet.kube.CoreV1().ServiceAccounts(workload.Namespace).CreateToken(bounded(t), "fairway-agent", request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(fmt.Errorf("token of the agents' account: %w", err))
	}
	config := rest.AnonymousClientConfig(fleet.lab.RESTConfig())
	config.BearerToken = token.Status.Token
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}
