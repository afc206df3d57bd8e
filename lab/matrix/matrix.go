// Package matrix breaks, one after the other, all that Fairway depends on, and
// counts what that costs the clients of a fleet: healthy instances that the
// servers dropped, calls that failed, and writes to the catalog.
package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/load"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// patience bounds how long a fleet may take to come to rest.
const patience = 4 * time.Minute

// Fleet is a workload of gated pods in a lab that a client calls all the time.
type Fleet struct {
	Lab  *cluster.Cluster
	Kube kubernetes.Interface

	registry workload.Registry
	app      workload.App
	servers  []*api.Client          // Consul's
	agents   map[string]*api.Client // Consul's client agents that pods are registered with, by node
	pods     *timeline.Recorder
	client   *load.Client
	rested   bool // since the last fault
}

// Start deploys the app and begins to call it. Stop ends that. registry is the
// one that the lab's Fairway uses.
func Start(ctx context.Context, lab *cluster.Cluster, registry workload.Registry, app workload.App) (*Fleet, error) {
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		return nil, err
	}
	f := &Fleet{Lab: lab, Kube: kube, registry: registry, app: app, servers: lab.ConsulServers(), agents: map[string]*api.Client{}}
	if registry == workload.ConsulAgents {
		for _, node := range lab.Nodes() {
			f.agents[node] = lab.Consul(node)
		}
	}
	f.pods, err = timeline.Follow(ctx, timeline.Options{
		Kube: kube, Consul: f.servers, Namespace: app.Namespace, Selector: app.Selector(), Service: app.Name,
	})
	if err != nil {
		return nil, err
	}
	if _, err := kube.AppsV1().Deployments(app.Namespace).Create(ctx, app.Deployment(), metav1.CreateOptions{}); err != nil {
		return nil, fmt.Errorf("create deployment %s: %w", app.Name, err)
	}
	if _, _, err := f.settle(ctx); err != nil {
		return nil, err
	}
	f.client, err = load.Start(ctx, load.Options{
		Consul: f.servers, Service: app.Name, Dial: lab.Host("client").Dial,
		Workers: 4, Interval: 5 * time.Millisecond, Timeout: 5 * time.Second,
	})
	return f, err
}

// Stop ends the calls. The workload stays.
func (f *Fleet) Stop() { f.client.Stop() }

// Row is what one fault did.
type Row struct {
	Fault string
	Held  time.Duration
	// Lost counts the times that the servers dropped a healthy instance, NodeOut
	// those in which they did so because Consul's members took its node for dead.
	// Gossip says that those may have lost sight of each other.
	Lost, NodeOut int
	Gossip        bool
	// Calls were made meanwhile, and Failed of them failed. Excused are not
	// among those: calls to a killed node until the servers dropped its pods.
	Calls, Failed, Excused int
	FailureText            []string
	// Written are the catalog's records of the service that changed, and
	// Expected says why some had to.
	Written  []string
	Expected string
	// Converged is how long after the fault all was as before; for a node that
	// is taken down, how long until no client is given its pods.
	Converged time.Duration
	// Amiss is what was found so last.
	Amiss string
}

// Problems are the promises that the fault broke.
func (r Row) Problems() error {
	var errs []error
	if r.Lost > 0 {
		errs = append(errs, fmt.Errorf("the servers dropped %d healthy instances", r.Lost))
	}
	if r.NodeOut > 0 && !r.Gossip {
		errs = append(errs, fmt.Errorf("the servers dropped %d healthy instances whose nodes Consul's members took for dead", r.NodeOut))
	}
	if r.Failed > 0 {
		errs = append(errs, fmt.Errorf("%d of %d calls failed: %v", r.Failed, r.Calls, r.FailureText))
	}
	if len(r.Written) > 0 && r.Expected == "" {
		errs = append(errs, fmt.Errorf("%d records of the catalog were written: %s", len(r.Written), strings.Join(r.Written, "\n")))
	}
	return errors.Join(errs...)
}

// Try puts the fault in force for a while, lets the fleet recover, and counts.
// An error means that it could not be tried or that the fleet did not recover.
func (f *Fleet) Try(ctx context.Context, fault Fault, hold time.Duration) (Row, error) {
	row := Row{Fault: fault.Name, Held: hold, Expected: fault.Writes, Gossip: fault.Gossip}
	if !f.rested {
		if _, _, err := f.settle(ctx); err != nil {
			return row, fmt.Errorf("before %s: %w", fault.Name, err)
		}
	}
	f.rested = false
	before, err := f.look(ctx)
	if err != nil {
		return row, err
	}
	undo, err := fault.Inject(ctx, f)
	if err != nil {
		return row, fmt.Errorf("%s: %w", fault.Name, err)
	}
	if undo != nil {
		err := wait(ctx, hold)
		if fault.Node != "" && err == nil {
			// What the node does to clients when it comes back is another matter.
			row.Converged, err = f.dropped(ctx, fault.Node, time.Now().Add(-hold))
			err = errors.Join(err, f.compare(ctx, &row, fault, before))
		}
		// A fault that began is ended even if nobody waits for it any more.
		if err := errors.Join(err, undo(context.WithoutCancel(ctx))); err != nil {
			return row, fmt.Errorf("end of %s: %w", fault.Name, err)
		}
	}
	converged, amiss, err := f.settle(ctx)
	if err != nil {
		return row, fmt.Errorf("after %s: %w", fault.Name, err)
	}
	if fault.Node != "" {
		return row, nil
	}
	row.Converged, row.Amiss = converged, amiss
	return row, f.compare(ctx, &row, fault, before)
}

// compare counts what has happened since before.
func (f *Fleet) compare(ctx context.Context, row *Row, fault Fault, before picture) error {
	after, err := f.look(ctx)
	if err != nil {
		return err
	}
	f.count(row, fault, before, after)
	return nil
}

// dropped waits until the servers give no client a pod of the node, and returns
// how long after the fault that was.
func (f *Fleet) dropped(ctx context.Context, node string, fault time.Time) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last time.Time
	err := f.pods.Wait(ctx, "the servers have dropped the pods of "+node, func(pods []timeline.Pod) bool {
		for _, p := range pods {
			switch {
			case p.Node != node:
			case !p.LastOut.After(fault):
				return false
			case p.LastOut.After(last):
				last = p.LastOut
			}
		}
		return true
	})
	return last.Sub(fault), err
}

// picture is what is compared before and after a fault.
type picture struct {
	pods    []timeline.Pod
	report  load.Report
	records map[string]record // of the catalog, by ID
}

// record is a service or check as the servers hold it.
type record struct {
	index uint64 // of its last change
	text  string
}

func (f *Fleet) look(ctx context.Context) (picture, error) {
	entries, err := f.entries(ctx)
	if err != nil {
		return picture{}, err
	}
	records := map[string]record{}
	for _, e := range entries {
		records[e.Service.ID] = record{e.Service.ModifyIndex, fmt.Sprintf("%+v", *e.Service)}
		for _, check := range e.Checks {
			if check.ServiceID != "" { // the node's own health is Consul's business
				records["check of "+check.ServiceID] = record{check.ModifyIndex, fmt.Sprintf("%+v", *check)}
			}
		}
	}
	return picture{pods: f.pods.Pods(), report: f.client.Report(), records: records}, nil
}

func (f *Fleet) count(row *Row, fault Fault, before, after picture) {
	was := map[string]timeline.Pod{}
	for _, p := range before.pods {
		was[p.UID] = p
	}
	away := map[string]time.Time{} // when the servers dropped the pods of the killed node, by address
	for _, p := range after.pods {
		if fault.Node != "" && p.Node == fault.Node {
			away[was[p.UID].IP] = p.LastOut // a pod that is started again may have another address
			continue
		}
		lost, nodeOut := drops(p)
		lostBefore, nodeOutBefore := drops(was[p.UID])
		row.Lost += lost - lostBefore
		row.NodeOut += nodeOut - nodeOutBefore
	}
	row.Calls = after.report.Requests - before.report.Requests
	for _, failure := range after.report.Failed[len(before.report.Failed):] {
		if out, ok := away[failure.Host()]; ok && failure.Began.Before(out) {
			row.Excused++
			continue
		}
		row.Failed++
		row.FailureText = append(row.FailureText, failure.String())
	}
	for id, now := range after.records {
		if was := before.records[id]; was.index != now.index {
			row.Written = append(row.Written, fmt.Sprintf("%s: was %s, is %s", id, was.text, now.text))
		}
	}
	for id := range before.records {
		if _, ok := after.records[id]; !ok {
			row.Written = append(row.Written, id+": removed")
		}
	}
}

// drops is how often the servers have dropped a healthy pod, and how often they
// did so for its node's own health.
func drops(p timeline.Pod) (lost, nodeOut int) {
	lost, nodeOut = p.Flaps, p.NodeFlaps
	if p.Lost() {
		lost++
	}
	if p.NodeOut {
		nodeOut++
	}
	return lost, nodeOut
}

// entries are all that the servers hold of the service, by a consistent read.
func (f *Fleet) entries(ctx context.Context) ([]*api.ServiceEntry, error) {
	q := (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
	var errs []error
	for _, server := range f.servers {
		entries, _, err := server.Health().Service(f.app.Name, "", false, q)
		if err == nil {
			return entries, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("look up %s: %w", f.app.Name, errors.Join(errs...))
}

// leader names the host whose Consul server leads.
func (f *Fleet) leader(ctx context.Context) (string, error) {
	leader, err := timeline.Leader(ctx, f.servers)
	if err != nil {
		return "", err
	}
	return leader.Agent().NodeName()
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Table is the rows in Markdown.
func Table(w io.Writer, rows []Row) error {
	fmt.Fprintln(w, "| fault | for | healthy instances lost | calls failed | catalog records written | as before after |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	var err error
	for _, r := range rows {
		failed := fmt.Sprintf("%d of %d", r.Failed, r.Calls)
		if r.Excused > 0 {
			failed += fmt.Sprintf(", and %d to the killed node before the servers dropped it", r.Excused)
		}
		lost := fmt.Sprint(r.Lost)
		if r.NodeOut > 0 {
			lost += fmt.Sprintf(", and %d that Consul's members took for dead with their node", r.NodeOut)
		}
		writes := fmt.Sprint(len(r.Written))
		if r.Expected != "" {
			writes += ": " + r.Expected
		}
		held := "-"
		if r.Held > 0 {
			held = r.Held.String()
		}
		_, err = fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %.1f s |\n", r.Fault, held, lost, failed, writes, r.Converged.Seconds())
	}
	return err
}
