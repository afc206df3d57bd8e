package imports

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consulimport"
)

// asked is a ConsulImport: what it asks for, and what it was told.
type asked struct {
	in         consulimport.Import
	allow      string // AnnotationAllowRemovals
	deleting   bool
	generation int64
	status     v1alpha1.ConsulImportStatus
}

// sameAsked leaves the status out: nobody but us writes it.
func sameAsked(a, b asked) bool {
	return a.deleting == b.deleting && a.generation == b.generation && a.allow == b.allow
}

func readImport(object any) (metav1.Object, asked, error) {
	in, ok := object.(*v1alpha1.ConsulImport)
	if !ok {
		return nil, asked{}, fmt.Errorf("a watch of ConsulImports brought a %T", object)
	}
	return in, asked{Read(in), in.Annotations[v1alpha1.AnnotationAllowRemovals], in.DeletionTimestamp != nil, in.Generation, in.Status}, nil
}

// longestAllowed bounds until when removals are let pass, so that nobody is left
// without a breaker by an annotation that was forgotten.
const longestAllowed = 24 * time.Hour

// allowed is until when a person lets the removals of an import pass, or what is
// wrong with how that is said.
func (a asked) allowed(now time.Time) (until time.Time, problem string) {
	if a.allow == "" {
		return time.Time{}, ""
	}
	until, err := time.Parse(time.RFC3339, a.allow)
	if err != nil || until.Sub(now) > longestAllowed {
		return time.Time{}, fmt.Sprintf("%s: %q: must be a time as 2006-01-02T15:04:05Z, %s ahead at most",
			v1alpha1.AnnotationAllowRemovals, a.allow, longestAllowed)
	}
	return until, ""
}

// Read is a ConsulImport in the core's words.
func Read(in *v1alpha1.ConsulImport) consulimport.Import {
	source, target := in.Spec.Source, in.Spec.Target
	out := consulimport.Import{
		Ref: refOf(in), UID: string(in.UID),
		Where: consulimport.Where{
			Datacenter: source.Datacenter, Peer: source.Peer, Namespace: source.Namespace, Partition: source.Partition,
		},
		Names: source.Names, Pattern: source.Pattern, Tags: source.Tags, IncludeOwn: source.IncludeOwn,
		Template: target.Name, Type: consulimport.Type(target.Type),
		Labels: target.Labels, Annotations: target.Annotations,
		Retain: in.Spec.Deletion == v1alpha1.DeletionRetain,
	}
	for _, p := range target.Ports {
		out.Ports = append(out.Ports, consulimport.ImportPort{Name: p.Name, Port: uint16(p.Port), Protocol: p.Protocol, Consul: p.ConsulPort}) //nolint:gosec // the API server checks it
	}
	return out
}

// seen is a Service as it is.
type seen struct {
	consulimport.Service
	// ports are those of one of ours, with what others have set on them.
	ports []corev1.ServicePort
}

// readService keeps of a Service that is not ours no more than that there is one.
func readService(object any) (metav1.Object, seen, error) {
	s, ok := object.(*corev1.Service)
	if !ok {
		return nil, seen{}, fmt.Errorf("a watch of Services brought a %T", object)
	}
	out := seen{Service: consulimport.Service{Object: objectOf(s)}}
	if out.Import == "" || len(s.Spec.Selector) > 0 {
		out.Object = consulimport.Object{Ref: out.Ref}
		return s, out, nil
	}
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		out.Type, out.ExternalName = consulimport.ExternalName, s.Spec.ExternalName
	case s.Spec.ClusterIP == corev1.ClusterIPNone:
		out.Type = consulimport.Headless
	default:
		out.Type = consulimport.ClusterIP
	}
	if out.Type != consulimport.ExternalName {
		out.ports = s.Spec.Ports
		for _, p := range s.Spec.Ports {
			out.Ports = append(out.Ports, consulimport.Port{Name: p.Name, Port: uint16(p.Port), Protocol: string(p.Protocol)}) //nolint:gosec // as above
		}
	}
	out.Labels = named(s.Labels, s.Annotations[v1alpha1.AnnotationLabels])
	out.Annotations = named(s.Annotations, s.Annotations[v1alpha1.AnnotationAnnotations])
	return s, out, nil
}

func sameService(a, b seen) bool {
	a.Version, b.Version = "", ""
	return reflect.DeepEqual(a.Service, b.Service)
}

// readSlice reads one of our slices: no others are watched.
func readSlice(object any) (metav1.Object, consulimport.Slice, error) {
	s, ok := object.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, consulimport.Slice{}, fmt.Errorf("a watch of EndpointSlices brought a %T", object)
	}
	out := consulimport.Slice{Object: objectOf(s), Service: s.Labels[discoveryv1.LabelServiceName], Family: consulimport.Family(s.AddressType)}
	if s.Labels[discoveryv1.LabelManagedBy] != v1alpha1.SlicesManagedBy {
		out.Object = consulimport.Object{Ref: out.Ref}
	}
	_, out.Headless = s.Labels[corev1.IsHeadlessService]
	for _, p := range s.Ports {
		port := consulimport.Port{Name: deref(p.Name), Port: uint16(deref(p.Port)), Protocol: string(deref(p.Protocol))} //nolint:gosec // as above
		out.Ports = append(out.Ports, port)
	}
	for _, e := range s.Endpoints {
		for _, text := range e.Addresses {
			if address, err := netip.ParseAddr(text); err == nil {
				out.Endpoints = append(out.Endpoints, consulimport.Endpoint{Address: address, State: stateOf(e.Conditions), Zone: deref(e.Zone)})
			}
		}
	}
	return s, out, nil
}

func sameSlice(a, b consulimport.Slice) bool {
	a.Version, b.Version = "", ""
	return reflect.DeepEqual(a, b)
}

// stateOf reads an endpoint's conditions; those that we do not write are a state
// that is not ours.
func stateOf(c discoveryv1.EndpointConditions) consulimport.State {
	is := func(value *bool, unset bool) bool {
		if value == nil {
			return unset
		}
		return *value
	}
	ready, serving, terminating := is(c.Ready, true), is(c.Serving, true), is(c.Terminating, false)
	switch {
	case ready && serving && !terminating:
		return consulimport.Ready
	case !ready && serving && terminating:
		return consulimport.Spare
	}
	return consulimport.State(fmt.Sprintf("ready: %v, serving: %v, terminating: %v", ready, serving, terminating))
}

// objectOf reads whose an object is. One that is being deleted is nobody's any
// more.
func objectOf(o metav1.Object) consulimport.Object {
	out := consulimport.Object{Ref: refOf(o)}
	owner := metav1.GetControllerOf(o)
	theirs := owner != nil && (owner.Kind != importKind || owner.APIVersion != v1alpha1.GroupVersion().String())
	if theirs || o.GetDeletionTimestamp() != nil || o.GetLabels()[v1alpha1.LabelManagedBy] != v1alpha1.ManagedBy {
		return out
	}
	annotations := o.GetAnnotations()
	out.Import = o.GetLabels()[v1alpha1.LabelImport]
	if owner != nil {
		out.Owner = string(owner.UID)
	}
	out.Origin = consulimport.Origin{Name: annotations[v1alpha1.AnnotationService], Where: consulimport.Where{
		Datacenter: annotations[v1alpha1.AnnotationDatacenter], Peer: annotations[v1alpha1.AnnotationPeer],
		Namespace: annotations[v1alpha1.AnnotationNamespace], Partition: annotations[v1alpha1.AnnotationPartition],
	}}
	if index := annotations[v1alpha1.AnnotationIndex]; index == v1alpha1.IndexBefore {
		out.Mark = consulimport.Before
	} else {
		out.Mark, _ = strconv.ParseUint(index, 10, 64) // 0 if somebody has spoilt it
	}
	out.Version = o.GetResourceVersion()
	return out
}

func refOf(o metav1.Object) consulimport.Ref {
	return consulimport.Ref{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// named are those of the values whose keys a list names; nil if none is.
func named(values map[string]string, list string) map[string]string {
	var out map[string]string
	for key := range strings.SplitSeq(list, ",") {
		if value, has := values[key]; has {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}

func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}
