// Package demo shows Fairway's main job on a real cluster, live, and fails if
// any of what it claims did not happen.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/load"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

const (
	name     = "demo"
	replicas = 4
	// halted is how long the demo watches the rollout stand still.
	halted = 15 * time.Second
	// patience bounds each single step.
	patience = 3 * time.Minute
)

// Run brings up a lab, installs Fairway and shows two rolling updates, the
// second with the Consul servers away. The lab is taken down at the end unless
// keep is set. The error names everything that did not happen.
func Run(ctx context.Context, out io.Writer, keep bool) (err error) {
	began := time.Now()
	lab, err := cluster.UpOwned(ctx, cluster.Default(name), out)
	if err != nil {
		return err
	}
	if !keep {
		defer func() { err = errors.Join(err, lab.Down(context.WithoutCancel(ctx))) }()
	}
	fmt.Fprintln(out, "\nInstalling Fairway from its chart and image")
	if err := workload.InstallFairway(ctx, lab, workload.ConsulAgents, out); err != nil {
		return err
	}
	show, err := newShow(ctx, lab, out)
	if err != nil {
		return err
	}
	if err := show.play(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nAll of it happened, in %s.\n", time.Since(began).Round(time.Second))
	if keep {
		fmt.Fprintf(out, "The lab is still up: go run ./lab status --name %s; take it down with go run ./lab down --name %s\n", name, name)
	}
	return nil
}

// show is the stage on which the acts are played.
type show struct {
	out    io.Writer
	lab    *cluster.Cluster
	kube   kubernetes.Interface
	consul []*api.Client
	app    workload.App
	pods   *timeline.Recorder
	client *load.Client
	// counted is the client's report at the end of the act before.
	counted load.Report
}

func newShow(ctx context.Context, lab *cluster.Cluster, out io.Writer) (*show, error) {
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		return nil, err
	}
	s := &show{
		out: out, lab: lab, kube: kube, consul: lab.ConsulServers(),
		app: workload.App{Namespace: metav1.NamespaceDefault, Name: "web", Replicas: replicas, LeaveSeconds: 3},
	}
	s.pods, err = timeline.Follow(ctx, timeline.Options{
		Kube: kube, Consul: s.consul, Namespace: s.app.Namespace, Selector: s.app.Selector(), Service: s.app.Name,
		OnStage: func(c timeline.Change) { fmt.Fprintln(out, stageLine(c)) },
	})
	return s, err
}

// stageLine tells one stage of one pod, with the time since the pod was
// created and, for what follows from another stage, the time since that.
func stageLine(c timeline.Change) string {
	since := map[timeline.Stage]timeline.Stage{
		timeline.Passing: timeline.ContainersReady, timeline.GateOpen: timeline.Passing, timeline.Out: timeline.Terminating,
	}
	line := fmt.Sprintf("  %s  %-22s %-19s", c.Pod.At[c.Stage].Format("15:04:05.000"), c.Pod.Name, c.Stage)
	if d, ok := c.Pod.Between(timeline.Created, c.Stage); ok && c.Stage != timeline.Created {
		line += fmt.Sprintf("%7d ms", d.Milliseconds())
	}
	if from, ok := since[c.Stage]; ok {
		if d, ok := c.Pod.Between(from, c.Stage); ok {
			line += fmt.Sprintf("   %d ms after %s", d.Milliseconds(), from)
		}
	}
	return strings.TrimRight(line, " ")
}

func (s *show) play(ctx context.Context) error {
	fmt.Fprintln(s.out, `
What follows is seen by two outsiders, a watch on the API server and a blocking
query on the leading Consul server, each line when its observer learned of it:
where they are milliseconds apart, one may overtake the other. "confirmed" is a
consistent read from the servers, begun after the pod was seen Ready.`)
	for _, act := range []struct {
		title string
		play  func(context.Context) error
	}{
		{fmt.Sprintf("1. %d pods with the gate: each is Ready when the Consul servers return it", replicas), s.start},
		{"2. A rolling update, while a client outside the cluster discovers the pods through Consul and calls them", s.roll},
		{"3. The Consul servers are stopped, and the next rolling update halts", s.halt},
		{"4. The Consul servers are started again, and the update completes", s.resume},
	} {
		fmt.Fprintf(s.out, "\n%s\n\n", act.title)
		if err := s.act(ctx, act.play); err != nil {
			return fmt.Errorf("%s: %w", act.title, err)
		}
	}
	return nil
}

func (s *show) act(ctx context.Context, play func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it took more than %s", patience))
	defer cancel()
	return play(ctx)
}

func (s *show) start(ctx context.Context) error {
	if _, err := s.kube.AppsV1().Deployments(s.app.Namespace).Create(ctx, s.app.Deployment(), metav1.CreateOptions{}); err != nil {
		return err
	}
	err := s.pods.Wait(ctx, "all pods are ready", func(pods []timeline.Pod) bool {
		return len(pods) == replicas && count(pods, timeline.Ready) == replicas
	})
	if err != nil {
		return err
	}
	s.client, err = load.Start(context.WithoutCancel(ctx), load.Options{
		Consul: s.consul, Service: s.app.Name, Dial: s.lab.Host("client").Dial,
		Workers: 8, Interval: 2 * time.Millisecond, Timeout: 5 * time.Second,
	})
	return errors.Join(err, s.proven(ctx))
}

func (s *show) roll(ctx context.Context) error {
	if err := s.update(ctx, "2"); err != nil {
		return err
	}
	if err := s.completed(ctx, 2*replicas); err != nil {
		return err
	}
	return errors.Join(s.proven(ctx), s.noFailures())
}

func (s *show) halt(ctx context.Context) error {
	for i := 1; i <= 3; i++ {
		process := fmt.Sprintf("consul-%d/consul", i)
		if _, err := s.lab.Kill(ctx, process); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "  stopped %s\n", process)
	}
	if err := s.update(ctx, "3"); err != nil {
		return err
	}
	waiting := func(pods []timeline.Pod) bool {
		newest := pods[len(pods)-1]
		return len(pods) == 2*replicas+1 && newest.Reached(timeline.ContainersReady) && newest.GateReason == "WaitingForServers"
	}
	if err := s.pods.Wait(ctx, "a new pod waits for the Consul servers", waiting); err != nil {
		return err
	}
	newest := s.pods.Pods()[2*replicas]
	fmt.Fprintf(s.out, "\n  %s  %s: %s\n  Watching for %s ...\n", newest.Name, newest.GateReason, newest.GateMessage, halted)
	watch, cancel := context.WithTimeout(ctx, halted)
	defer cancel()
	moved := s.pods.Wait(watch, "anything moves", func(pods []timeline.Pod) bool {
		return len(pods) != 2*replicas+1 || count(pods, timeline.Terminating) != replicas || pods[2*replicas].Reached(timeline.GateOpen)
	})
	if moved == nil {
		return fmt.Errorf("the update did not halt:\n%s", timeline.Table(s.pods.Pods()))
	}
	fmt.Fprintf(s.out, "  Nothing moved: %d old pods still serve, the new one is not Ready.\n", replicas)
	return s.noFailures()
}

func (s *show) resume(ctx context.Context) error {
	for i := 1; i <= 3; i++ {
		process := fmt.Sprintf("consul-%d/consul", i)
		if err := s.lab.Start(ctx, process); err != nil {
			return err
		}
		fmt.Fprintf(s.out, "  started %s\n", process)
	}
	if err := s.completed(ctx, 3*replicas); err != nil {
		return err
	}
	err := errors.Join(s.proven(ctx), s.noFailures())
	s.client.Stop()
	return err
}

// update changes the pod template, which starts a rolling update.
func (s *show) update(ctx context.Context, revision string) error {
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"revision":%q}}}}}`, revision)
	_, err := s.kube.AppsV1().Deployments(s.app.Namespace).Patch(ctx, s.app.Name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "  kubectl patch deployment %s: revision %s\n", s.app.Name, revision)
	return nil
}

// completed waits until total pods have existed and only the newest are left.
func (s *show) completed(ctx context.Context, total int) error {
	return s.pods.Wait(ctx, "the update is complete", func(pods []timeline.Pod) bool {
		return len(pods) == total && count(pods, timeline.Deleted) == total-replicas && count(pods[total-replicas:], timeline.Ready) == replicas
	})
}

// proven checks, by a consistent read made for each pod once it was seen Ready,
// that the servers return every Ready pod.
func (s *show) proven(ctx context.Context) error {
	err := s.pods.Wait(ctx, "the servers were asked about each Ready pod", func(pods []timeline.Pod) bool {
		for _, p := range pods {
			if p.Reached(timeline.Ready) && !p.Reached(timeline.Confirmed) && p.Denied == 0 {
				return false
			}
		}
		return true
	})
	for _, p := range s.pods.Pods() {
		if p.Denied > 0 {
			err = errors.Join(err, fmt.Errorf("%s was Ready and the Consul servers did not return it", p.Name))
		}
	}
	return err
}

// noFailures reports the client's calls since the last report and checks that
// there were some and that none failed.
func (s *show) noFailures() error {
	now := s.client.Report()
	requests, failures := now.Requests-s.counted.Requests, now.Failures-s.counted.Failures
	s.counted = now
	fmt.Fprintf(s.out, "\n  Client: %d requests, %d failed.\n", requests, failures)
	if failures > 0 {
		return fmt.Errorf("%d of %d requests failed: %v", failures, requests, now.Failed[:min(10, len(now.Failed))])
	}
	if requests == 0 {
		return errors.New("the client made no request")
	}
	return nil
}

func count(pods []timeline.Pod, s timeline.Stage) (n int) {
	for _, p := range pods {
		if p.Reached(s) {
			n++
		}
	}
	return n
}
