package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Undo ends a fault. It may be called more than once.
type Undo func(context.Context) error

// Kill ends a process, such as n1/consul, without a warning. Undo starts it again.
func (c *Cluster) Kill(ctx context.Context, id string) (Undo, error) {
	p, err := c.Process(id)
	if err != nil {
		return nil, err
	}
	if err := c.kill(ctx, p); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.Start(ctx, id) }, nil
}

// Stop ends a process the way an administrator would, and returns when it has ended. Undo starts it
// again.
func (c *Cluster) Stop(ctx context.Context, id string) (Undo, error) {
	p, err := c.Process(id)
	if err != nil {
		return nil, err
	}
	if err := c.stop(ctx, p); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error { return c.Start(ctx, id) }, nil
}

// startTimeout bounds the start of a single process.
const startTimeout = time.Minute

// Start starts a process that has ended, just as it was started before, and returns when it takes
// connections, the API server when it is ready. A process that runs is not started again. What needs several processes, such as
// Consul's leader, may take longer.
func (c *Cluster) Start(ctx context.Context, id string) error {
	p, err := c.Process(id)
	if err != nil {
		return err
	}
	if !p.Alive() {
		if err := c.start(p); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return c.awaitServers(ctx, id+" to answer", []*Process{p}, func(ctx context.Context) error {
		if p.Name == apiServer {
			return c.apiReady(ctx)
		}
		return c.connect(ctx, p)
	})
}

// connect tries whether a process takes connections, from inside its host.
func (c *Cluster) connect(ctx context.Context, p *Process) error {
	network := "tcp"
	if filepath.IsAbs(p.Address) {
		network = "unix"
	}
	conn, err := c.Host(p.Host).Dial(ctx, network, p.Address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Restart stops a process and starts it again.
func (c *Cluster) Restart(ctx context.Context, id string) error {
	start, err := c.Stop(ctx, id)
	if err != nil {
		return err
	}
	return start(ctx)
}

// RestartWith stops a process and starts it again with more arguments. Undo restarts it without them.
func (c *Cluster) RestartWith(ctx context.Context, id string, args ...string) (Undo, error) {
	p, err := c.Process(id)
	if err != nil {
		return nil, err
	}
	before := p.Args
	restart := func(ctx context.Context, args []string) error {
		if err := c.stop(ctx, p); err != nil {
			return err
		}
		p.Args = args
		if err := c.start(p); err != nil {
			return err
		}
		return c.Start(ctx, id)
	}
	undo := func(ctx context.Context) error { return restart(ctx, before) }
	return undo, restart(ctx, slices.Concat(before, args))
}

// Pause freezes a process: its connections stay open and nothing answers. Undo lets it go on.
func (c *Cluster) Pause(ctx context.Context, id string) (Undo, error) {
	p, err := c.Process(id)
	if err != nil {
		return nil, err
	}
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	err = await(ctx, id+" to freeze", func(context.Context) error {
		if state := p.State(); state != "paused" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
	return func(context.Context) error { return p.signal(syscall.SIGCONT) }, err
}

// WipeConsulAgent makes a node's Consul agent forget all it knew, as when its disk was replaced: it
// comes back as the same node with none of its services. Undo brings the old data back.
func (c *Cluster) WipeConsulAgent(ctx context.Context, node string) (Undo, error) {
	data, kept := c.consulData(node), c.consulData(node)+".kept"
	err := c.whileStopped(ctx, node+"/consul", func() error { return os.Rename(data, kept) })
	if err != nil {
		return nil, fmt.Errorf("wipe Consul agent of %s: %w", node, err)
	}
	return func(ctx context.Context) error {
		if _, err := os.Stat(kept); err != nil {
			return nil // brought back before
		}
		return c.whileStopped(ctx, node+"/consul", func() error {
			if err := os.RemoveAll(data); err != nil {
				return err
			}
			return os.Rename(kept, data)
		})
	}, nil
}

func (c *Cluster) whileStopped(ctx context.Context, id string, f func() error) error {
	start, err := c.Kill(ctx, id)
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return start(ctx)
}

// KillContainer ends, with SIGKILL, the running containers of that name on a node. There is nothing to
// undo: their kubelet starts them again.
func (c *Cluster) KillContainer(ctx context.Context, node, container string) error {
	return c.eachTask(ctx, node, container, "kill", "--signal", "SIGKILL")
}

// PauseContainer freezes the running containers of that name on a node: time stands still for them.
// Undo lets them go on.
func (c *Cluster) PauseContainer(ctx context.Context, node, container string) (Undo, error) {
	ids, err := c.runningTasks(ctx, node, container)
	if err != nil {
		return nil, err
	}
	undo := func(ctx context.Context) error {
		var errs []error
		for _, id := range ids {
			_, err := c.ctr(ctx, node, "--namespace", "k8s.io", "tasks", "resume", id)
			errs = append(errs, err)
		}
		ids = nil
		return errors.Join(errs...)
	}
	return undo, c.eachTask(ctx, node, container, "pause")
}

// eachTask runs a command of ctr on the running containers of that name.
func (c *Cluster) eachTask(ctx context.Context, node, container string, verb ...string) error {
	ids, err := c.runningTasks(ctx, node, container)
	if err != nil {
		return err
	}
	done := 0
	for _, id := range ids {
		args := append([]string{"--namespace", "k8s.io", "tasks"}, verb...)
		_, err := c.ctr(ctx, node, append(args, id)...)
		if err == nil {
			done++
			continue
		}
		if tasks, listErr := c.ctr(ctx, node, "--namespace", "k8s.io", "tasks", "list"); listErr == nil && !taskRuns(tasks, id) {
			continue // it has ended by itself meanwhile
		}
		return fmt.Errorf("%s container %s on %s: %w", verb[0], container, node, err)
	}
	if done == 0 {
		return fmt.Errorf("%s container %s on %s: it has ended by itself", verb[0], container, node)
	}
	return nil
}

// runningTasks are the running containers of that name, at least one.
func (c *Cluster) runningTasks(ctx context.Context, node, container string) ([]string, error) {
	filter := fmt.Sprintf("labels.%q==%s", "io.kubernetes.container.name", container)
	named, err := c.ctr(ctx, node, "--namespace", "k8s.io", "containers", "list", "--quiet", filter)
	if err != nil {
		return nil, fmt.Errorf("find container %s on %s: %w", container, node, err)
	}
	tasks, err := c.ctr(ctx, node, "--namespace", "k8s.io", "tasks", "list")
	if err != nil {
		return nil, fmt.Errorf("find container %s on %s: %w", container, node, err)
	}
	var running []string
	for id := range strings.FieldsSeq(named) {
		if taskRuns(tasks, id) {
			running = append(running, id)
		}
	}
	if len(running) == 0 {
		return nil, fmt.Errorf("no container %s runs on %s", container, node)
	}
	return running, nil
}

// taskRuns looks a container up in ctr's table of tasks: ID, PID, status.
func taskRuns(table, id string) bool {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == id {
			return fields[2] == "RUNNING"
		}
	}
	return false
}
