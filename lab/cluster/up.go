package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// upTimeout bounds the start of servers that are already built. It takes about half a minute on two
// idle cores.
const upTimeout = 5 * time.Minute

// Up brings a lab up and returns when all of it works: every node Ready, every Consul agent passing.
// It tells its progress to out. Leftovers of a lab of that name are removed first, and with it what had
// joined it; a lab that runs is left alone (ErrRunning). When Up fails it ends what it had started, and
// leaves the logs.
func Up(ctx context.Context, t Topology, out io.Writer) (*Cluster, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if err := Preflight(); err != nil {
		return nil, err
	}
	unlock, err := lock(t.Name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := Open(t.Name); err == nil && anyAlive(t.Name) {
		return nil, fmt.Errorf("lab %s: %w", t.Name, ErrRunning)
	}
	if err := joinable(t); err != nil {
		return nil, err
	}
	progress := &progress{out: out}
	r, err := prepare(ctx, t, progress)
	if err != nil {
		return nil, err
	}
	if err := removeAll(ctx, t.Name); err != nil {
		return nil, fmt.Errorf("remove leftovers of lab %s: %w", t.Name, err)
	}
	c := newCluster(t, r)
	ctx, cancel := context.WithTimeout(ctx, upTimeout)
	defer cancel()
	if err := c.bringUp(ctx, progress); err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), downTimeout)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("bring up lab %s (logs are in %s): %w", t.Name, c.path(), err), end(clean, t.Name))
	}
	return c, nil
}

// UpOwned is Up for a lab that belongs to this process, as a test's or the demo's does. What an earlier
// owner of the name has left is removed first, even if it still runs: that owner was killed, or had been
// asked to leave it. ErrRunning means that the owner is still at work.
func UpOwned(ctx context.Context, t Topology, out io.Writer) (*Cluster, error) {
	if err := errors.Join(t.Validate(), Preflight()); err != nil {
		return nil, err
	}
	owner, err := openLock(t.Name + ".owner")
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("lab %s: %w, and another process works with it", t.Name, ErrRunning)
	}
	if err != nil {
		return nil, err
	}
	if anyAlive(t.Name) {
		fmt.Fprintf(out, "removing lab %s of an earlier run\n", t.Name)
		err = Down(ctx, t.Name)
	}
	var c *Cluster
	if err == nil {
		c, err = Up(ctx, t, out)
	}
	if err != nil {
		return nil, errors.Join(err, owner.Close())
	}
	c.owner = owner
	return c, nil
}

// bringUp starts everything, in parallel where nothing has to wait.
func (c *Cluster) bringUp(ctx context.Context, progress *progress) error {
	begin := time.Now()
	if err := c.save(); err != nil {
		return err
	}
	err := progress.step("hosts and their network", func() error { return c.buildNetwork(ctx) })
	if err != nil {
		return err
	}
	err = progress.step("certificates, kubeconfigs and tokens", func() error {
		return errors.Join(c.buildPKI(), c.makeTokens(), c.readCredentials())
	})
	if err != nil {
		return err
	}
	control := make(chan struct{}) // closed when the API server serves
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := progress.step("control plane", func() error {
			return errors.Join(c.startAPIProxy(groupCtx), c.startControlPlane(groupCtx))
		})
		if err == nil {
			close(control)
		}
		return err
	})
	group.Go(func() error {
		return progress.step("Consul", func() error { return c.startConsul(groupCtx) })
	})
	for _, node := range c.Nodes() {
		group.Go(func() error { return c.bringUpNode(groupCtx, c.Host(node), control, progress) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	err = progress.step("default service account", func() error { return c.awaitServiceAccount(ctx) })
	if err != nil {
		return err
	}
	if c.DNS {
		if err := progress.step("DNS of the cluster", func() error { return c.startDNS(ctx) }); err != nil {
			return err
		}
	}
	c.Up = time.Now()
	progress.say("lab "+c.Name+" is up", begin)
	return c.save()
}

func (c *Cluster) bringUpNode(ctx context.Context, node *Host, control <-chan struct{}, progress *progress) error {
	err := progress.step("containerd on "+node.Name, func() error { return c.startRuntime(ctx, node) })
	if err != nil {
		return err
	}
	select {
	case <-control:
	case <-ctx.Done():
		return ctx.Err()
	}
	kube, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	return progress.step("node "+node.Name+" Ready", func() error { return c.startNode(ctx, kube, node) })
}

// awaitServiceAccount waits for the last thing that a first pod needs.
func (c *Cluster) awaitServiceAccount(ctx context.Context) error {
	kube, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	manager, err := c.Process(controlPlane + "/kube-controller-manager")
	if err != nil {
		return err
	}
	return c.awaitServers(ctx, "service account default", []*Process{manager}, func(ctx context.Context) error {
		_, err := kube.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// progress writes one line for each step. Steps may run in parallel.
type progress struct {
	mu  sync.Mutex
	out io.Writer
}

// step runs f and, if it succeeds, says how long it took.
func (p *progress) step(what string, f func() error) error {
	begin := time.Now()
	if err := f(); err != nil {
		return err
	}
	p.say(what, begin)
	return nil
}

func (p *progress) say(what string, begin time.Time) {
	fmt.Fprintf(p, "%6.1fs  %s\n", time.Since(begin).Seconds(), what)
}

// Write lets parts that report by themselves share the output.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}
