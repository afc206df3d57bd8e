package chart_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"fairway.dev/fairway/internal/service"
)

// The policies' meaning is tested in test/e2e, on the API server that evaluates
// them. Here is what can be seen without one.

var policyKinds = []string{
	"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding",
	"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}

// Each policy is installed with a binding, without which it does nothing, and
// can be left out where the cluster does not know it.
func TestPoliciesCanBeSwitchedOff(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"by default", nil, "fairway-inject; fairway-annotations fairway-own-node"},
		{"no injection", []string{"--set", "admission.inject=false"}, "; fairway-annotations fairway-own-node"},
		{"no look at annotations", []string{"--set", "admission.validate=None"}, "fairway-inject; fairway-own-node"},
		{"agents unbound", []string{"--set", "admission.ownNodeOnly=false"}, "fairway-inject; fairway-annotations"},
	}
	helm := newHelm(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			names := map[string]string{}
			for _, kind := range policyKinds {
				objects := map[string]any{}
				for name := range helm.objects(t, kind, append([]string{"--set", "clusterID=test"}, tt.args...)...) {
					objects[name] = nil
				}
				names[kind] = strings.Join(keys(objects), " ")
			}
			got := names["MutatingAdmissionPolicy"] + "; " + names["ValidatingAdmissionPolicy"]
			if got != tt.want {
				t.Errorf("policies %q, want %q", got, tt.want)
			}
			if bound := names["MutatingAdmissionPolicyBinding"] + "; " + names["ValidatingAdmissionPolicyBinding"]; bound != got {
				t.Errorf("bindings %q for policies %q", bound, got)
			}
		})
	}
}

// A policy that fails lets pass what people and controllers do. The one that
// holds the agents fails closed, and looks at the agents' requests alone.
func TestI2PoliciesStopNoPod(t *testing.T) {
	helm := newHelm(t)
	var inject admissionregistrationv1.MutatingAdmissionPolicy
	helm.object(t, "MutatingAdmissionPolicy", &inject, "--namespace", "somewhere", "--set", "clusterID=test")
	if got := *inject.Spec.FailurePolicy; got != admissionregistrationv1.Ignore {
		t.Errorf("injection fails with %s", got)
	}
	if got := len(inject.Spec.Mutations); got != 1 {
		t.Errorf("%d mutations; if one of several fails, a pod gets a part", got)
	}
	var except []string
	for _, e := range inject.Spec.MatchConstraints.NamespaceSelector.MatchExpressions {
		except = append(except, fmt.Sprint(e.Key, " ", e.Operator, " ", e.Values))
	}
	if diff := cmp.Diff([]string{"kubernetes.io/metadata.name NotIn [kube-system somewhere]"}, except); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}

	policies := helm.objects(t, "ValidatingAdmissionPolicy", "--namespace", "somewhere", "--set", "clusterID=test")
	var annotations, ownNode admissionregistrationv1.ValidatingAdmissionPolicy
	decode(t, policies["fairway-annotations"], &annotations)
	decode(t, policies["fairway-own-node"], &ownNode)
	if got := *annotations.Spec.FailurePolicy; got != admissionregistrationv1.Ignore {
		t.Errorf("the look at annotations fails with %s", got)
	}
	if got := *ownNode.Spec.FailurePolicy; got != admissionregistrationv1.Fail {
		t.Errorf("the policy on agents fails with %s", got)
	}
	const agents = "request.userInfo.username == 'system:serviceaccount:somewhere:fairway-agent'"
	if c := ownNode.Spec.MatchConditions; len(c) != 1 || c[0].Expression != agents {
		t.Errorf("the policy on agents looks at requests with %v", c)
	}
}

// The conditions that the agents write are those that they may, katalog-sync's
// gate only while they stand in its place.
func TestI8OwnConditions(t *testing.T) {
	own := fmt.Sprintf("'%s', '%s'", service.GateReachable, service.ConditionAnnotations)
	for mode, want := range map[string]string{
		"": "[" + own + "]", "take-over": "[" + own + ", '" + service.GateKatalog + "']", "hand-back": "[" + own + ", '" + service.GateKatalog + "']",
	} {
		var policy admissionregistrationv1.ValidatingAdmissionPolicy
		args := append(slices.Clone(everything), "--set", "katalogSync="+mode)
		decode(t, newHelm(t).objects(t, "ValidatingAdmissionPolicy", args...)["fairway-own-node"], &policy)
		var got string
		for _, v := range policy.Spec.Variables {
			if v.Name == "own" {
				got = v.Expression
			}
		}
		if got != want {
			t.Errorf("katalogSync=%q: conditions %s, want %s", mode, got, want)
		}
	}
}

// admission.validate is what the API server does.
func TestValidateIsTheAction(t *testing.T) {
	helm := newHelm(t)
	for _, action := range []admissionregistrationv1.ValidationAction{"Warn", "Deny"} {
		var binding admissionregistrationv1.ValidatingAdmissionPolicyBinding
		args := []string{"--set", "clusterID=test", "--set", "admission.validate=" + string(action)}
		decode(t, helm.objects(t, "ValidatingAdmissionPolicyBinding", args...)["fairway-annotations"], &binding)
		if diff := cmp.Diff([]admissionregistrationv1.ValidationAction{action}, binding.Spec.ValidationActions); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}
