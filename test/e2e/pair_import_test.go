package e2e

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/lab/workload"
)

// callers is the namespace, in the second cluster, that imports.
const callers = "callers"

// imports makes a ConsulImport of one service in the second cluster, if it is not
// there yet.
func (p *pair) imports(t *testing.T, service string) importer {
	t.Helper()
	in := importer{p.west, t, callers, service}
	if _, err := in.read(bounded(t)); err == nil {
		return in
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: callers}}
	_, err := p.west.kube.CoreV1().Namespaces().Create(bounded(t), ns, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	in.create(importOf(service))
	return in
}

func importOf(service string) v1alpha1.ConsulImportSpec {
	return v1alpha1.ConsulImportSpec{Source: v1alpha1.ConsulSource{Names: []string{service}}}
}

// byName: pods, in no Service and behind an imported one, and a VM call each other by
// name, each through the resolver that it has.
func (p *pair) byName(t *testing.T) {
	stop, err := workload.StartVM(bounded(t), fleet.lab, p.machine, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { undone(t, stop) })
	loner := p.app
	loner.Namespace, loner.Name, loner.Replicas = metav1.NamespaceDefault, "loner", 1
	p.west.createDeployment(t, loner)
	p.west.waitRolledOut(t, loner)
	pod := p.west.pods(t, loner)[0].Status.PodIP
	vm := fleet.lab.Host("client").Addr.String()
	var east, all []string
	for _, s := range p.sides() {
		for _, pod := range s.pods(t, p.app) {
			if all = append(all, pod.Name); s.lab == p.east.lab {
				east = append(east, pod.Name)
			}
		}
	}
	machine := p.imports(t, p.machine)
	machine.waitAddresses("the VM", []string{vm})
	p.imports(t, p.web).waitAddresses("the pods of the other cluster", p.addresses(t, p.east))
	for _, call := range []struct {
		what, from, name string
		want             []string
	}{
		{"a pod in no Service calls the VM", pod, p.machine + ".service.consul", []string{p.machine}},
		{"a pod in no Service calls the published pods of both", pod, p.web + ".service.consul", all},
		{"the VM calls the published pods of both", vm, p.web + ".service.consul", all},
		{"a pod calls an imported VM", pod, p.machine + "." + callers, []string{p.machine}},
		{"a pod calls the imported pods of the other cluster", pod, p.web + "." + callers, east},
		{"a published pod calls an imported VM", p.addresses(t, p.west)[0], p.machine + "." + callers, []string{p.machine}},
		{"a pod behind an imported Service calls the VM", p.addresses(t, p.east)[0], p.machine + ".service.consul", []string{p.machine}},
		{"a pod calls a Service of its own cluster that is published", pod, p.web + "." + p.app.Namespace, p.names(t, p.west)},
	} {
		t.Run(call.what, func(t *testing.T) {
			answered := map[string]bool{}
			until(t, "all of them have answered at "+call.name, func(ctx context.Context) (bool, string, error) {
				answer, err := p.west.lab.Call(ctx, call.from, "http://"+call.name+":8080/")
				if err != nil {
					return false, "", err
				}
				if !slices.Contains(call.want, answer) {
					t.Fatalf("%s answers %q, want %v", call.name, answer, call.want)
				}
				answered[answer] = true
				return len(answered) == len(call.want), answer, nil
			})
		})
	}
}

// pods are the app's.
func (s side) pods(t *testing.T, app workload.App) []corev1.Pod {
	t.Helper()
	list, err := s.kube.CoreV1().Pods(app.Namespace).List(bounded(t), metav1.ListOptions{LabelSelector: app.Selector()})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// names and addresses are those of the app's pods on one side.
func (p *pair) names(t *testing.T, s side) (names []string) {
	t.Helper()
	for _, pod := range s.pods(t, p.app) {
		names = append(names, pod.Name)
	}
	return names
}

func (p *pair) addresses(t *testing.T, s side) (addresses []string) {
	t.Helper()
	for _, pod := range s.pods(t, p.app) {
		addresses = append(addresses, pod.Status.PodIP)
	}
	return addresses
}

// foreign are the addresses that the second cluster imports of a service: those of
// the other cluster and of the VM, and not its own.
func (p *pair) foreign(t *testing.T, name string) []string {
	t.Helper()
	return stands(t, name).addresses(p.west.of)
}

// serviceLeaves: what somebody has taken out of Consul leaves its import when Consul
// has said so twice, and not before; and it comes back.
func (p *pair) serviceLeaves(t *testing.T) {
	const address = "203.0.113.201"
	name := p.machine + "-2"
	t.Cleanup(func() { forgetVM(t, name) })
	registerVM(t, name, address)
	in := p.imports(t, name)
	in.waitAddresses("the VM", []string{address})
	forgetVM(t, name)
	in.waitCondition(consulimport.ConditionRemovalsHeld, metav1.ConditionTrue, consulimport.ReasonNotConfirmed)
	in.waitAddresses("none", nil)
	registerVM(t, name, address)
	in.waitAddresses("the VM again", []string{address})
	in.waitCondition(consulimport.ConditionRemovalsHeld, metav1.ConditionFalse, consulimport.ReasonNothingHeld)
}

// dataLost: when the Consul servers have lost all they knew, what was imported stays
// until they know it again; and both clusters publish anew what is theirs.
func (p *pair) dataLost(t *testing.T) {
	shared := p.imports(t, p.hand)
	want := p.foreign(t, p.hand)
	shared.waitAddresses("those of the other cluster and of the VM", want)
	if err := fleet.lab.WipeConsulServers(bounded(t)); err != nil {
		t.Fatal(err)
	}
	shared.waitCondition(consulimport.ConditionRemovalsHeld, metav1.ConditionTrue, consulimport.ReasonIndexWentBack)
	shared.waitAddresses("those from before", want)
	serving(t, p.hand, 8) // both clusters' own
	serving(t, p.web, 4)
	shared.waitCondition(consulimport.ConditionRemovalsHeld, metav1.ConditionTrue, consulimport.ReasonIndexWentBack)
	shared.waitAddresses("the VM is held", want)
	registerVM(t, p.hand, "203.0.113.200")
	shared.waitCondition(consulimport.ConditionRemovalsHeld, metav1.ConditionFalse, consulimport.ReasonNothingHeld)
	shared.waitAddresses("all that there were", p.foreign(t, p.hand))
}
