package imports

import (
	"encoding/json"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// plainly compares addresses by value.
func plainly() cmp.Option {
	return cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
}

func object(name string) consulimport.Object {
	return consulimport.Object{
		Ref: consulimport.Ref{Namespace: "shop", Name: name}, Import: "backends", Owner: "u1", Mark: 7,
		Origin: consulimport.Origin{Name: "Web_1", Where: consulimport.Where{Datacenter: "dc2", Namespace: "n", Partition: "p"}},
	}
}

func shopService(change ...func(*consulimport.Service)) consulimport.Service {
	s := consulimport.Service{
		Object: object("web"), Type: consulimport.ClusterIP, Ports: []consulimport.Port{{Name: "http", Port: 80, Protocol: "TCP"}, {Name: "dns", Port: 53, Protocol: "UDP"}},
		Labels: map[string]string{"team": "a", "tier": "1"}, Annotations: map[string]string{"example.com/x": "y"},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func slice(change ...func(*consulimport.Slice)) consulimport.Slice {
	s := consulimport.Slice{
		Object: object("web-consul-1"), Service: "web", Family: consulimport.IPv4, Ports: []consulimport.Port{{Name: "http", Port: 8080, Protocol: "TCP"}},
		Endpoints: []consulimport.Endpoint{
			{Address: netip.MustParseAddr("198.18.0.1"), State: consulimport.Ready, Zone: "eu-1"},
			{Address: netip.MustParseAddr("198.18.0.2"), State: consulimport.Spare},
		},
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

// What others have set on a port stays when Fairway changes the ports: the API server
// would keep a nodePort by the port's name alone, and nothing else.
func TestPortsKeepWhatOthersSet(t *testing.T) {
	t.Parallel()
	theirs := func(name string, port, nodePort int32) corev1.ServicePort {
		return corev1.ServicePort{
			Name: name, Port: port, Protocol: corev1.ProtocolTCP, NodePort: nodePort,
			AppProtocol: new("kubernetes.io/h2c"), TargetPort: intstr.FromInt32(port),
		}
	}
	ours := func(name string, port uint16) consulimport.Port {
		return consulimport.Port{Name: name, Port: port, Protocol: "TCP"}
	}
	for name, tt := range map[string]struct {
		have      []corev1.ServicePort
		want      []consulimport.Port
		nodePorts []int32 // 0 is a port that is new
	}{
		"another number":          {[]corev1.ServicePort{theirs("", 80, 30080)}, []consulimport.Port{ours("", 81)}, []int32{30080}},
		"another name":            {[]corev1.ServicePort{theirs("", 80, 30080)}, []consulimport.Port{ours("http", 80)}, []int32{30080}},
		"another name and number": {[]corev1.ServicePort{theirs("", 80, 30080)}, []consulimport.Port{ours("http", 81)}, []int32{30080}},
		"one more":                {[]corev1.ServicePort{theirs("http", 80, 30080)}, []consulimport.Port{ours("grpc", 90), ours("http", 80)}, []int32{0, 30080}},
		"one less":                {[]corev1.ServicePort{theirs("http", 80, 30080), theirs("grpc", 90, 30090)}, []consulimport.Port{ours("grpc", 90)}, []int32{30090}},
		"numbers change places":   {[]corev1.ServicePort{theirs("http", 80, 30080), theirs("grpc", 90, 30090)}, []consulimport.Port{ours("http", 90), ours("grpc", 80)}, []int32{30080, 30090}},
		"one of two is another":   {[]corev1.ServicePort{theirs("http", 80, 30080), theirs("grpc", 90, 30090)}, []consulimport.Port{ours("http", 80), ours("admin", 70)}, []int32{30080, 30090}},
		"both are others":         {[]corev1.ServicePort{theirs("http", 80, 30080), theirs("grpc", 90, 30090)}, []consulimport.Port{ours("x", 1), ours("y", 2)}, []int32{0, 0}},
	} {
		there := newService(shopService())
		there.Spec.Ports = tt.have
		_, before, err := readService(stored(there, "5"))
		if err != nil {
			t.Fatal(err)
		}
		var got corev1.Service
		merge(t, there, servicePatch(before, shopService(func(s *consulimport.Service) { s.Version, s.Ports = "5", tt.want })), &got)
		var want []corev1.ServicePort
		for i, p := range tt.want {
			if tt.nodePorts[i] == 0 {
				want = append(want, corev1.ServicePort{Name: p.Name, Port: int32(p.Port), Protocol: corev1.ProtocolTCP})
				continue
			}
			w := theirs(p.Name, int32(p.Port), tt.nodePorts[i])
			w.TargetPort = intstr.IntOrString{} // which the API server makes the port
			want = append(want, w)
		}
		if diff := cmp.Diff(want, got.Spec.Ports); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	targeted := theirs("http", 80, 30080)
	targeted.TargetPort = intstr.FromInt32(8080) // somebody's word
	if got := servicePorts([]consulimport.Port{ours("http", 81)}, []corev1.ServicePort{targeted}); got[0].TargetPort.IntVal != 8080 {
		t.Errorf("the target port is %v", got[0].TargetPort)
	}
}

// stored is an object as the API server would hand it out.
func stored[T metav1.Object](o T, version string) T {
	o.SetUID("uid-1")
	o.SetResourceVersion(version)
	return o
}

// What is written is read back as it was, so that nothing is written twice (I6).
func TestI6WhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]consulimport.Service{
		"cluster IP": shopService(),
		"plain": shopService(func(s *consulimport.Service) {
			s.Labels, s.Annotations, s.Origin.Where = nil, nil, consulimport.Where{}
		}),
		"headless":  shopService(func(s *consulimport.Service) { s.Type = consulimport.Headless }),
		"of a peer": shopService(func(s *consulimport.Service) { s.Origin.Where = consulimport.Where{Peer: "east"} }),
		"it holds":  shopService(func(s *consulimport.Service) { s.Mark = consulimport.Before }),
		"a host name": shopService(func(s *consulimport.Service) {
			s.Type, s.Ports, s.ExternalName = consulimport.ExternalName, nil, "web.example.com"
		}),
	} {
		made := stored(newService(want), "5")
		_, got, err := readService(made)
		want.Version = "5"
		if diff := cmp.Diff(want, got.Service); diff != "" || err != nil {
			t.Errorf("%s: %v (-written +read):\n%s", name, err, diff)
		}
	}
	for name, want := range map[string]consulimport.Slice{
		"a slice":  slice(),
		"headless": slice(func(s *consulimport.Slice) { s.Headless = true }),
		"IPv6": slice(func(s *consulimport.Slice) {
			s.Family, s.Endpoints = consulimport.IPv6, []consulimport.Endpoint{{Address: netip.MustParseAddr("2001:db8::1"), State: consulimport.Ready}}
		}),
	} {
		_, got, err := readSlice(stored(newSlice(want), "5"))
		want.Version = "5"
		if diff := cmp.Diff(want, got, plainly()); diff != "" || err != nil {
			t.Errorf("%s: %v (-written +read):\n%s", name, err, diff)
		}
	}
}

// A change leaves alone what others have set, and takes away what is not asked for
// any more.
func TestAChangeIsOfOursAlone(t *testing.T) {
	t.Parallel()
	before := shopService()
	there := stored(newService(before), "5")
	there.Labels["theirs"], there.Annotations["theirs"] = "1", "2"
	there.Spec.ClusterIP, there.Spec.SessionAffinity = "10.0.0.7", corev1.ServiceAffinityClientIP
	delete(there.Annotations, serviceSync) // which is the user's right
	before.Version = "5"
	want := shopService(func(s *consulimport.Service) {
		s.Version, s.Mark, s.Labels, s.Annotations = "5", 9, map[string]string{"team": "b"}, nil
		s.Ports, s.Owner = s.Ports[:1], "u2"
	})
	var got corev1.Service
	merge(t, there, servicePatch(seen{before, there.Spec.Ports}, want), &got)
	_, read, err := readService(&got)
	if diff := cmp.Diff(want, read.Service); diff != "" || err != nil {
		t.Errorf("%v (-wanted +read):\n%s", err, diff)
	}
	if got.Labels["theirs"] != "1" || got.Annotations["theirs"] != "2" || got.Spec.ClusterIP != "10.0.0.7" || got.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		t.Errorf("what others have set: %+v", got)
	}
	for _, gone := range []string{"example.com/x", v1alpha1.AnnotationAnnotations, serviceSync} {
		if _, has := got.Annotations[gone]; has {
			t.Errorf("annotation %s is there", gone)
		}
	}
	if _, has := got.Labels["tier"]; has {
		t.Error("a label is there that is not asked for any more")
	}

	sliceBefore := slice(func(s *consulimport.Slice) { s.Headless = true })
	sliceThere := stored(newSlice(sliceBefore), "5")
	sliceThere.Labels["theirs"] = "1"
	sliceBefore.Version = "5"
	sliceWant := slice(func(s *consulimport.Slice) { s.Version, s.Endpoints = "5", s.Endpoints[:1] })
	var gotSlice discoveryv1.EndpointSlice
	merge(t, sliceThere, slicePatch(sliceBefore, sliceWant), &gotSlice)
	_, readBack, err := readSlice(&gotSlice)
	if diff := cmp.Diff(sliceWant, readBack, plainly()); diff != "" || err != nil || gotSlice.Labels["theirs"] != "1" {
		t.Errorf("%v, labels %v (-wanted +read):\n%s", err, gotSlice.Labels, diff)
	}
}

// merge patches an object as RFC 7386 says.
func merge(t *testing.T, object any, patch map[string]any, into any) {
	t.Helper()
	plain := func(v any) (out map[string]any) {
		data, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(data, &out)
		}
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var apply func(to, patch map[string]any)
	apply = func(to, patch map[string]any) {
		for key, value := range patch {
			inner, nested := value.(map[string]any)
			if there, is := to[key].(map[string]any); nested && is {
				apply(there, inner)
			} else {
				to[key] = value
			}
		}
		maps.DeleteFunc(to, func(_ string, v any) bool { return v == nil })
	}
	result := plain(object)
	apply(result, plain(patch))
	data, err := json.Marshal(result)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// I5: what is not Fairway's is read as nobody's, so that it is never written.
func TestI5WhoseAnObjectIs(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*corev1.Service){
		"made by somebody else":  func(s *corev1.Service) { s.Labels = nil },
		"managed by another":     func(s *corev1.Service) { s.Labels[v1alpha1.LabelManagedBy] = "Helm" },
		"with a selector":        func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "web"} },
		"controlled by another":  func(s *corev1.Service) { s.OwnerReferences[0].Kind = "Gateway" },
		"of another API's kind":  func(s *corev1.Service) { s.OwnerReferences[0].APIVersion = "example.com/v1" },
		"that is being deleted":  func(s *corev1.Service) { s.DeletionTimestamp = new(metav1.Now()) },
		"without import's label": func(s *corev1.Service) { delete(s.Labels, v1alpha1.LabelImport) },
	} {
		made := stored(newService(shopService()), "5")
		spoil(made)
		_, got, err := readService(made)
		want := consulimport.Service{Object: consulimport.Object{Ref: consulimport.Ref{Namespace: "shop", Name: "web"}}}
		if diff := cmp.Diff(want, got.Service); diff != "" || err != nil || got.ports != nil {
			t.Errorf("a Service %s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	orphan := stored(newService(shopService()), "5")
	orphan.OwnerReferences = nil
	if _, got, _ := readService(orphan); got.Import != "backends" || got.Owner != "" {
		t.Errorf("one that has lost its owner: %+v", got.Object)
	}
}

// An endpoint that somebody has changed is not taken for ours.
func TestStates(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		conditions discoveryv1.EndpointConditions
		want       consulimport.State
	}{
		{discoveryv1.EndpointConditions{}, consulimport.Ready},
		{discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)}, consulimport.Ready},
		{discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}, consulimport.Spare},
		{discoveryv1.EndpointConditions{Ready: new(false)}, "ready: false, serving: true, terminating: false"},
	} {
		if got := stateOf(tt.conditions); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.conditions, got, tt.want)
		}
	}
}

// A ConsulImport is read whole.
func TestReadImport(t *testing.T) {
	t.Parallel()
	in := &v1alpha1.ConsulImport{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "backends", UID: types.UID("u1"), Generation: 3,
			Annotations: map[string]string{v1alpha1.AnnotationAllowRemovals: "2026-01-01T12:00:00Z"},
		},
		Spec: v1alpha1.ConsulImportSpec{
			Source: v1alpha1.ConsulSource{Names: []string{"web"}, Pattern: "p", Tags: []string{"v1"}, Datacenter: "d", Peer: "e", Namespace: "n", Partition: "p", IncludeOwn: true},
			Target: v1alpha1.ServiceTarget{
				Name: "x-{service}", Type: v1alpha1.ServiceHeadless, Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"},
				Ports: []v1alpha1.ServicePort{{Name: "http", Port: 80, Protocol: "TCP", ConsulPort: "web"}},
			},
			Deletion: v1alpha1.DeletionRetain,
		},
	}
	_, got, err := readImport(in)
	want := consulimport.Import{
		Ref: consulimport.Ref{Namespace: "shop", Name: "backends"}, UID: "u1",
		Where: consulimport.Where{Datacenter: "d", Peer: "e", Namespace: "n", Partition: "p"},
		Names: []string{"web"}, Pattern: "p", Tags: []string{"v1"}, IncludeOwn: true, Template: "x-{service}", Type: consulimport.Headless,
		Ports:  []consulimport.ImportPort{{Name: "http", Port: 80, Protocol: "TCP", Consul: "web"}},
		Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}, Retain: true,
	}
	if diff := cmp.Diff(want, got.in); diff != "" || err != nil || got.generation != 3 || got.deleting {
		t.Errorf("%v, %+v (-want +got):\n%s", err, got, diff)
	}
	in.DeletionTimestamp = new(metav1.Now())
	if _, got, _ := readImport(in); !got.deleting {
		t.Error("its end was not noticed")
	}
}

// What a person lets go is bounded, and what cannot be understood is said where
// they look.
func TestAllowed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	held := consulimport.Status{Conditions: []consulimport.Condition{{Type: consulimport.ConditionRemovalsHeld, Status: service.ConditionTrue, Message: "held"}}}
	for value, good := range map[string]bool{
		"": true, "2026-01-01T12:10:00Z": true, "2025-01-01T12:10:00Z": true,
		"tomorrow": false, "2026-01-01": false, "2027-01-01T12:00:00Z": false,
	} {
		in := asked{allow: value}
		until, problem := in.allowed(now)
		if (problem == "") != good || until.IsZero() != (!good || value == "") {
			t.Errorf("%q: until %s, %q", value, until, problem)
		}
		said := statusOf(in, held, now).Conditions[0].Message
		if want := strings.TrimSuffix("held; "+problem, "; "); said != want {
			t.Errorf("%q: the condition says %q, want %q", value, said, want)
		}
	}
}
