package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// downTimeout bounds the end of a lab.
const downTimeout = time.Minute

// Down ends the lab and removes everything of it.
func (c *Cluster) Down(ctx context.Context) error {
	err := Down(ctx, c.Name)
	if c.owner != nil {
		err = errors.Join(err, c.owner.Close())
		c.owner = nil
	}
	return err
}

// Down ends whatever there is of the named lab, complete or not, and removes everything of it. A lab that
// joined it goes first, for it has neither a network nor a Consul without it.
func Down(ctx context.Context, name string) error {
	unlock, err := lock(name)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	if err := removeAll(ctx, name); err != nil {
		return fmt.Errorf("take down lab %s: %w", name, err)
	}
	return nil
}

// removeAll removes the named lab, and before it those that joined it.
func removeAll(ctx context.Context, name string) error {
	others, err := joined(name)
	if err != nil {
		return err
	}
	for _, other := range others {
		if err := Down(ctx, other); err != nil {
			return err
		}
	}
	return remove(ctx, name)
}

// DownAll ends every lab, also those of which a killed run has left only parts.
func DownAll(ctx context.Context, out io.Writer) error {
	names, err := List()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		progress := &progress{out: out}
		errs = append(errs, progress.step("lab "+name+" is down", func() error { return Down(ctx, name) }))
	}
	return errors.Join(errs...)
}

// List names all labs of which anything is left: a folder, a namespace or a cgroup.
func List() ([]string, error) {
	found := map[string]bool{}
	folders, err := filepath.Glob(filepath.Join(StateDir, "*"))
	if err != nil {
		return nil, err
	}
	for _, path := range folders {
		found[filepath.Base(path)] = true
	}
	for _, pattern := range []string{
		filepath.Join(namespaceDir, namespacePrefix+"*"),
		filepath.Join(cgroupMount, "*", namespacePrefix+"*"),
		filepath.Join(cgroupMount, namespacePrefix+"*"),
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			lab, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), namespacePrefix), "-")
			found[lab] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// remove ends whatever there is of the named lab and forgets it. It works from what it finds, so it
// also cleans up after an Up or Down that was killed half way, and is happy to find nothing.
func remove(ctx context.Context, name string) error {
	if err := end(ctx, name); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(StateDir, name))
}

// end stops all processes of the named lab and gives back what it holds of the machine. Its folder
// stays. All data are about to be forgotten, so nothing is asked to stop gracefully; servers are
// killed at once, and containers together with the shims that would clean up after them.
func end(ctx context.Context, name string) error {
	c := newCluster(Topology{Name: name}, record{})
	processes, err := c.Processes()
	if err != nil {
		return err
	}
	for _, p := range processes {
		if err := p.signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	for _, p := range processes {
		if err := p.awaitEnd(ctx); err != nil {
			return err
		}
	}
	names, err := labNamespaces(name)
	if err != nil {
		return err
	}
	if err := killInside(ctx, names, c.path()); err != nil {
		return err
	}
	sockets := shimSockets(c.path())
	for _, path := range slices.Backward(mountsBelow(c.path())) {
		if err := unmount(path); err != nil {
			return err
		}
	}
	return errors.Join(
		removeNamespaces(ctx, name),
		removeCgroups(ctx, name),
		removeStrays(name, c.path(), sockets),
	)
}

// killInside kills every process in the named network namespaces of hosts, and in those of the pods
// below dir, until there is none: containers, their shims, and servers whose record was lost.
func killInside(ctx context.Context, names []string, dir string) error {
	namespaces := identifyNamespaces(names, dir)
	return await(ctx, "processes of the lab to end", func(context.Context) error {
		left, err := processesIn(namespaces)
		if err != nil {
			return err
		}
		for _, p := range left {
			if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return fmt.Errorf("kill process %d: %w", p.Pid, err)
			}
			_ = p.Release()
		}
		if len(left) > 0 {
			return fmt.Errorf("%d processes are left", len(left))
		}
		return nil
	})
}

// identifyNamespaces identifies the network namespaces of hosts, by name, and of the pods below dir.
// containerd mounts the latter there; other mounts there are no process's namespace and do no harm.
func identifyNamespaces(names []string, dir string) map[fileID]bool {
	paths := mountsBelow(dir)
	for _, name := range names {
		paths = append(paths, filepath.Join(namespaceDir, name))
	}
	ids := map[fileID]bool{}
	for _, path := range paths {
		if id, ok := identify(path); ok {
			ids[id] = true
		}
	}
	return ids
}

// processesIn returns a handle of every process whose network namespace is among those given. Each
// handle was taken before the look at its namespace, so it is not that of a later owner of the PID.
func processesIn(namespaces map[fileID]bool) ([]*os.Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []*os.Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		handle, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if id, ok := identify(filepath.Join("/proc", entry.Name(), "ns", "net")); ok && namespaces[id] {
			found = append(found, handle)
		} else {
			_ = handle.Release()
		}
	}
	return found, nil
}

// mountsBelow lists what is mounted below dir, in the order it was mounted.
func mountsBelow(dir string) []string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseMounts(bufio.NewScanner(f), dir)
}

// parseMounts reads mountinfo; see proc(5). The fifth field is the mount point.
func parseMounts(lines *bufio.Scanner, dir string) []string {
	var paths []string
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			paths = append(paths, fields[4])
		}
	}
	return paths
}

// shimSockets lists the sockets of the shims that containerd knew. They lie outside the lab's folder.
func shimSockets(dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, "*", "containerd", "state", "io.containerd.runtime.v2.task", "*", "*", "bootstrap.json"))
	if err != nil {
		return nil
	}
	var sockets []string
	for _, file := range files {
		var shim struct {
			Address string `json:"address"`
		}
		if err := readJSON(file, &shim); err == nil {
			sockets = append(sockets, strings.TrimPrefix(shim.Address, "unix://"))
		}
	}
	return sockets
}

// removeStrays removes the files that kubelet, containerd and CNI keep in places of their own: links
// to container logs, cached CNI results, and the given sockets.
func removeStrays(name, dir string, strays []string) error {
	links, err := filepath.Glob("/var/log/containers/*.log")
	if err != nil {
		return err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir+"/") {
			strays = append(strays, link)
		}
	}
	results, err := filepath.Glob("/var/lib/cni/results/" + namespacePrefix + name + "-*")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range append(strays, results...) {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// anyAlive reports whether any recorded process of the named lab still runs.
func anyAlive(name string) bool {
	processes, err := newCluster(Topology{Name: name}, record{}).Processes()
	return err == nil && slices.ContainsFunc(processes, (*Process).Alive)
}
