package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/load"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

const (
	// callers call at the same time, each with callPause between two calls, so
	// that they do not take the cores from what they measure.
	callers   = 50
	callPause = 20 * time.Millisecond
	// callTimeout is more than any answer of the sample app takes.
	callTimeout = 5 * time.Second
	// rolloutTimeout bounds one rolling update.
	rolloutTimeout = 5 * time.Minute
)

// rolloutResult is the JSON line of bench rollout.
type rolloutResult struct {
	Bench string       `json:"bench"`
	Pods  int32        `json:"pods"`
	Load  string       `json:"load_average"`
	Rows  []rolloutRow `json:"rows"`
}

// rolloutRow is one way to stop pods.
type rolloutRow struct {
	Drain    string  `json:"drain"`
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Updates  int     `json:"rolling_updates"`
	Replaced int     `json:"pods_replaced"`
	Seconds  float64 `json:"seconds"`
	// Examples are the first failures, as the client saw them.
	Examples []string `json:"examples,omitempty"`
}

// stopping is a way to stop the pods of an app.
type stopping struct {
	name string
	app  workload.App
	// mayFail is set where failed requests are what is to be shown.
	mayFail bool
}

func rolloutCommand() *cobra.Command {
	var (
		page     string
		pods     int32
		requests int
	)
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "Rolling updates under load, with a confirmed drain and without",
		Long: `Calls an app from outside of the cluster, 50 calls at a time, while rolling
updates replace its pods, one after the other until the calls have been made. The
client finds the pods by blocking queries on the Consul servers and never retries
a call. First the pods have the sidecar fairway-gate, which holds each until the
servers have dropped it; then they have no sidecar and no preStop hook, and end
when they are told to, as apps do. Fails if a call failed with the drain.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withFairway(cmd.Context(), workload.ConsulAgents, func(ctx context.Context, lab *cluster.Cluster) (any, error) {
				return benchRollout(ctx, lab, pods, requests, page)
			})
		},
	}
	cmd.Flags().StringVar(&page, "write", "", "Markdown page in which to replace the table")
	cmd.Flags().Int32Var(&pods, "pods", 10, "number of pods")
	cmd.Flags().IntVar(&requests, "requests", 200_000, "requests to make, at least, for each way to stop")
	return cmd
}

func benchRollout(ctx context.Context, lab *cluster.Cluster, pods int32, requests int, page string) (any, error) {
	result := rolloutResult{Bench: "rollout", Pods: pods, Load: loadAverage()}
	var broken error
	for _, way := range []stopping{
		{name: "confirmed", app: workload.App{Name: "drained", Drain: workload.NativeSidecar}},
		{name: "none", app: workload.App{Name: "undrained"}, mayFail: true},
	} {
		way.app.Namespace, way.app.Replicas = metav1.NamespaceDefault, pods
		fmt.Fprintf(os.Stderr, "drain %s: starting %d pods\n", way.name, pods)
		row, err := rollUnderLoad(ctx, lab, way, requests)
		if err != nil {
			return nil, fmt.Errorf("drain %s: %w", way.name, err)
		}
		result.Rows = append(result.Rows, row)
		if row.Failed > 0 && !way.mayFail {
			broken = errors.Join(broken, fmt.Errorf("drain %s: %d of %d requests failed: %v", way.name, row.Failed, row.Requests, row.Examples))
		}
	}
	table := rolloutTable(result.Rows)
	fmt.Fprintln(os.Stderr, table)
	if broken == nil && page != "" {
		broken = replaceTable(page, "rollout", table)
	}
	return result, broken
}

// rollUnderLoad replaces the app's pods, again and again, until the requests
// have been made and the rolling update that was under way then is over.
func rollUnderLoad(ctx context.Context, lab *cluster.Cluster, way stopping, requests int) (row rolloutRow, err error) {
	row = rolloutRow{Drain: way.name}
	kube, err := kubernetes.NewForConfig(lab.RESTConfig())
	if err != nil {
		return row, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pods, err := timeline.Follow(ctx, timeline.Options{
		Kube: kube, Consul: lab.ConsulServers(), Namespace: way.app.Namespace, Selector: way.app.Selector(), Service: way.app.Name,
	})
	if err != nil {
		return row, err
	}
	deployments := kube.AppsV1().Deployments(way.app.Namespace)
	deployment := way.app.Deployment()
	surge := intstr.FromString("20%")
	deployment.Spec.Strategy.RollingUpdate.MaxSurge = &surge
	roll := func(change func() error) error {
		ctx, cancel := context.WithTimeout(ctx, rolloutTimeout)
		defer cancel()
		began := time.Now()
		if err := change(); err != nil {
			return err
		}
		return pods.Wait(ctx, "all pods are new and ready", replaced(began, int(way.app.Replicas)))
	}
	if err := roll(func() error { _, err := deployments.Create(ctx, deployment, metav1.CreateOptions{}); return err }); err != nil {
		return row, err
	}
	client, err := load.Start(ctx, load.Options{
		Consul: lab.ConsulServers(), Service: way.app.Name, Dial: lab.Host("client").Dial,
		Workers: callers, Interval: callPause, Timeout: callTimeout,
	})
	if err != nil {
		return row, err
	}
	began := time.Now()
	for client.Report().Requests < requests {
		row.Updates++
		patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"bench-round":"%d"}}}}}`, row.Updates)
		err := roll(func() error {
			_, err := deployments.Patch(ctx, way.app.Name, types.MergePatchType, patch, metav1.PatchOptions{})
			return err
		})
		if err != nil {
			client.Stop()
			return row, err
		}
		report := client.Report()
		fmt.Fprintf(os.Stderr, "drain %s: %d rolling updates, %d requests, %d failed\n", way.name, row.Updates, report.Requests, report.Failures)
	}
	row.take(client.Stop(), time.Since(began))
	row.Replaced = row.Updates * int(way.app.Replicas)
	if err := deployments.Delete(ctx, way.app.Name, metav1.DeleteOptions{}); err != nil {
		return row, err
	}
	return row, pods.Wait(ctx, "all pods are gone", func(pods []timeline.Pod) bool { return living(pods) == 0 })
}

// take takes in what the client has seen.
func (r *rolloutRow) take(report load.Report, took time.Duration) {
	const examples = 3
	r.Requests, r.Failed, r.Seconds = report.Requests, report.Failures, took.Round(time.Second).Seconds()
	for _, failure := range report.Failed[:min(examples, len(report.Failed))] {
		r.Examples = append(r.Examples, failure.String())
	}
}

// rolloutTable is the rows in Markdown.
func rolloutTable(rows []rolloutRow) string {
	words := map[string]string{"confirmed": "confirmed drain", "none": "no drain: SIGTERM at once"}
	var b strings.Builder
	fmt.Fprint(&b, "| | requests | failed | rolling updates | pods replaced | took |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %d | **%d** | %d | %d | %.0f s |\n", words[r.Drain], r.Requests, r.Failed, r.Updates, r.Replaced, r.Seconds)
	}
	return b.String()
}

// replaced tells whether there are n pods, all of them ready and made since
// then.
func replaced(since time.Time, n int) func([]timeline.Pod) bool {
	return func(pods []timeline.Pod) bool {
		ready := 0
		for _, p := range pods {
			if p.Reached(timeline.Ready) && !p.Reached(timeline.Terminating) && p.At[timeline.Created].After(since) {
				ready++
			}
		}
		return ready == n && living(pods) == n
	}
}

// living counts the pods that exist.
func living(pods []timeline.Pod) (n int) {
	for _, p := range pods {
		if !p.Reached(timeline.Deleted) {
			n++
		}
	}
	return n
}
