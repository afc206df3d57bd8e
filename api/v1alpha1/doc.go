// Package v1alpha1 holds the kinds of the API group fairway.dev, with the rules
// by which the API server checks them. `make generate` writes the deep copies
// and the custom resource definitions from it.
//
// +kubebuilder:object:generate=true
// +groupName=fairway.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of all kinds of this package.
func GroupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: "fairway.dev", Version: "v1alpha1"}
}

// AddToScheme makes the kinds of this package known to a client.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion(), &ConsulImport{}, &ConsulImportList{})
	metav1.AddToGroupVersion(scheme, GroupVersion())
	return nil
}
