package imports

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consulimport"
)

// serviceSync keeps Consul's own catalog sync from sending a Service back to where
// it came from.
const serviceSync = "consul.hashicorp.com/service-sync"

// texts are labels or annotations; nil is one that must not be there.
type texts map[string]*string

func (t texts) set(key, value string) {
	t[key] = nil
	if value != "" {
		t[key] = &value
	}
}

// present are those that are to be there.
func (t texts) present() map[string]string {
	out := map[string]string{}
	for key, value := range t {
		if value != nil {
			out[key] = *value
		}
	}
	return out
}

func marks(o consulimport.Object) texts {
	t := texts{}
	t.set(v1alpha1.AnnotationService, o.Origin.Name)
	t.set(v1alpha1.AnnotationDatacenter, o.Origin.Datacenter)
	t.set(v1alpha1.AnnotationPeer, o.Origin.Peer)
	t.set(v1alpha1.AnnotationNamespace, o.Origin.Namespace)
	t.set(v1alpha1.AnnotationPartition, o.Origin.Partition)
	t.set(v1alpha1.AnnotationIndex, strconv.FormatUint(o.Mark, 10))
	if o.Mark == consulimport.Before {
		t.set(v1alpha1.AnnotationIndex, v1alpha1.IndexBefore)
	}
	return t
}

func labels(o consulimport.Object) texts {
	t := texts{}
	t.set(v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
	t.set(v1alpha1.LabelImport, o.Import)
	return t
}

// wishes adds what an import asks for, and takes away what it asked for before.
func (t texts) wishes(before, now map[string]string) {
	for key := range before {
		t[key] = nil
	}
	for key, value := range now {
		t[key] = &value
	}
}

// serviceTexts are the labels and annotations of a Service that are Fairway's.
func serviceTexts(s, before consulimport.Service) (labelled, annotated texts) {
	labelled, annotated = labels(s.Object), marks(s.Object)
	labelled.wishes(before.Labels, s.Labels)
	annotated.wishes(before.Annotations, s.Annotations)
	annotated.set(v1alpha1.AnnotationLabels, strings.Join(slices.Sorted(maps.Keys(s.Labels)), ","))
	annotated.set(v1alpha1.AnnotationAnnotations, strings.Join(slices.Sorted(maps.Keys(s.Annotations)), ","))
	return labelled, annotated
}

// newService is a Service as it is made. What is not asked for by the import is the
// user's to change afterwards.
func newService(s consulimport.Service) *corev1.Service {
	labelled, annotated := serviceTexts(s, consulimport.Service{})
	if annotated[serviceSync] == nil {
		annotated.set(serviceSync, "false")
	}
	out := &corev1.Service{ObjectMeta: metaOf(s.Object, labelled, annotated), Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP}}
	if s.Type == consulimport.ExternalName {
		out.Spec.Type, out.Spec.ExternalName = corev1.ServiceTypeExternalName, s.ExternalName
		return out
	}
	if s.Type == consulimport.Headless {
		out.Spec.ClusterIP = corev1.ClusterIPNone
	}
	out.Spec.IPFamilyPolicy = new(corev1.IPFamilyPolicyPreferDualStack)
	out.Spec.Ports = servicePorts(s.Ports, nil)
	return out
}

// servicePorts are the ports of a Service that has some, or none yet. What others have
// set on one stays, such as nodePort and appProtocol, and goes with its name; with its
// number if that name is new; and if all but one are known again, with that one.
func servicePorts(ports []consulimport.Port, have []corev1.ServicePort) []corev1.ServicePort {
	out := make([]corev1.ServicePort, len(ports))
	known, left := make([]bool, len(ports)), slices.Clone(have)
	for _, same := range []func(corev1.ServicePort, consulimport.Port) bool{
		func(h corev1.ServicePort, p consulimport.Port) bool { return h.Name == p.Name },
		func(h corev1.ServicePort, p consulimport.Port) bool {
			return h.Port == int32(p.Port) && h.Protocol == corev1.Protocol(p.Protocol)
		},
		func(corev1.ServicePort, consulimport.Port) bool { return len(have) == len(ports) && len(left) == 1 },
	} {
		for i, p := range ports {
			if known[i] {
				continue
			}
			if at := slices.IndexFunc(left, func(h corev1.ServicePort) bool { return same(h, p) }); at >= 0 {
				out[i], known[i] = left[at], true
				left = slices.Delete(left, at, at+1)
			}
		}
	}
	for i, p := range ports {
		if out[i].TargetPort.IntVal == out[i].Port {
			out[i].TargetPort = intstr.IntOrString{} // nobody's word: the API server makes it the port
		}
		out[i].Name, out[i].Port, out[i].Protocol = p.Name, int32(p.Port), corev1.Protocol(p.Protocol)
	}
	return out
}

// servicePatch is what changes of a Service.
func servicePatch(before seen, s consulimport.Service) map[string]any {
	labelled, annotated := serviceTexts(s, before.Service)
	spec := map[string]any{}
	if !slices.Equal(before.Ports, s.Ports) {
		spec["ports"] = servicePorts(s.Ports, before.ports)
	}
	if before.ExternalName != s.ExternalName {
		spec["externalName"] = s.ExternalName
	}
	patch := map[string]any{"metadata": metaPatch(before.Object, s.Object, labelled, annotated)}
	if len(spec) > 0 {
		patch["spec"] = spec
	}
	return patch
}

func sliceLabels(s consulimport.Slice) texts {
	t := labels(s.Object)
	t.set(discoveryv1.LabelManagedBy, v1alpha1.SlicesManagedBy)
	t.set(discoveryv1.LabelServiceName, s.Service)
	t[corev1.IsHeadlessService] = nil
	if s.Headless {
		t[corev1.IsHeadlessService] = new("")
	}
	return t
}

func newSlice(s consulimport.Slice) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metaOf(s.Object, sliceLabels(s), marks(s.Object)),
		AddressType: discoveryv1.AddressType(s.Family), Ports: slicePorts(s.Ports), Endpoints: endpoints(s.Endpoints),
	}
}

// slicePatch is what changes of a slice.
func slicePatch(before, s consulimport.Slice) map[string]any {
	return map[string]any{
		"metadata": metaPatch(before.Object, s.Object, sliceLabels(s), marks(s.Object)),
		"ports":    slicePorts(s.Ports), "endpoints": endpoints(s.Endpoints),
	}
}

func slicePorts(ports []consulimport.Port) []discoveryv1.EndpointPort {
	var out []discoveryv1.EndpointPort
	for _, p := range ports {
		out = append(out, discoveryv1.EndpointPort{Name: new(p.Name), Port: new(int32(p.Port)), Protocol: new(corev1.Protocol(p.Protocol))})
	}
	return out
}

// endpoints are those of a slice. A spare one gets requests if no other is ready:
// so kube-proxy takes endpoints that serve while they terminate.
func endpoints(all []consulimport.Endpoint) []discoveryv1.Endpoint {
	out := make([]discoveryv1.Endpoint, 0, len(all))
	for _, e := range all {
		ready := e.State == consulimport.Ready
		endpoint := discoveryv1.Endpoint{
			Addresses:  []string{e.Address.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(ready), Serving: new(true), Terminating: new(!ready)},
		}
		if e.Zone != "" {
			endpoint.Zone = new(e.Zone)
		}
		out = append(out, endpoint)
	}
	return out
}

func metaOf(o consulimport.Object, labelled, annotated texts) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: o.Ref.Namespace, Name: o.Ref.Name, Labels: labelled.present(), Annotations: annotated.present(),
		OwnerReferences: owners(o),
	}
}

// metaPatch is what changes of an object's metadata, and which version it changes.
func metaPatch(before, o consulimport.Object, labelled, annotated texts) map[string]any {
	patch := map[string]any{"resourceVersion": o.Version, "labels": labelled, "annotations": annotated}
	if before.Owner != o.Owner || before.Import != o.Import {
		patch["ownerReferences"] = owners(o)
	}
	return patch
}

func owners(o consulimport.Object) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion().String(), Kind: importKind, Name: o.Import, UID: types.UID(o.Owner),
		Controller: new(true), BlockOwnerDeletion: new(true),
	}}
}
