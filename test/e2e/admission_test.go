package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/images"
)

const annotationsPolicy = "fairway-annotations"

// dryRun has the API server admit an object, policies included, and keep
// nothing of it.
var dryRun = metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

// TestPoliciesCompile: the API server finds nothing to complain about in the
// policies that the chart installs.
func TestPoliciesCompile(t *testing.T) {
	for _, name := range []string{annotationsPolicy, "fairway-own-node"} {
		until(t, "the API server has checked "+name, func(ctx context.Context) (bool, string, error) {
			policy, err := fleet.kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
			if err != nil || policy.Status.TypeChecking == nil {
				return false, "not checked", err
			}
			for _, w := range policy.Status.TypeChecking.ExpressionWarnings {
				t.Errorf("%s: %s: %s", name, w.FieldRef, w.Warning)
			}
			return true, "", nil
		})
	}
}

// barePod is a pod that nobody but its test has made.
func barePod(namespace string, annotations map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "bare", Annotations: annotations},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: images.SampleRef, ImagePullPolicy: corev1.PullNever,
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
		}}},
	}
}

// warnings collects what the API server warns of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

// take returns what the policy on annotations has warned of since the last
// call.
func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := slices.DeleteFunc(w.texts, func(text string) bool { return !strings.Contains(text, "'"+annotationsPolicy+"'") })
	w.texts = nil
	return texts
}

// warned is an administrator's client, and what it is warned of.
func warned(t *testing.T) (*kubernetes.Clientset, *warnings) {
	t.Helper()
	w := &warnings{}
	config := fleet.lab.RESTConfig()
	config.WarningHandler = w
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client, w
}

// denyIn has mistakes refused in one namespace, as admission.validate=Deny
// does everywhere, and returns when that is so.
func denyIn(t *testing.T, namespace string) {
	t.Helper()
	bindings := fleet.kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "deny-" + namespace},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        annotationsPolicy,
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			MatchResources: &admissionregistrationv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{corev1.LabelMetadataName: namespace},
			}},
		},
	}
	if _, err := bindings.Create(bounded(t), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if err := bindings.Delete(ctx, binding.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	wrong := barePod(namespace, map[string]string{"fairway.dev/service-names": ","})
	until(t, "mistakes are refused in "+namespace, func(ctx context.Context) (bool, string, error) {
		_, err := fleet.kube.CoreV1().Pods(namespace).Create(ctx, wrong, dryRun)
		return refusal(err, annotationsPolicy) != "", fmt.Sprint(err), nil
	})
}

// refusal is the message with which a policy has refused a request; empty if
// it has not.
func refusal(err error, policy string) string {
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		return ""
	}
	_, message, found := strings.Cut(err.Error(), "ValidatingAdmissionPolicy '"+policy+"'")
	if !found {
		return ""
	}
	_, message, _ = strings.Cut(message, "denied request: ")
	return message
}
