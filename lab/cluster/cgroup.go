package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroupMount is where every distribution mounts the cgroup hierarchies.
const cgroupMount = "/sys/fs/cgroup"

// cgroupHierarchies lists the roots of all hierarchies: one with cgroup v2, one a controller with v1.
func cgroupHierarchies() ([]string, error) {
	if _, err := os.Stat(filepath.Join(cgroupMount, "cgroup.controllers")); err == nil {
		return []string{cgroupMount}, nil
	}
	entries, err := os.ReadDir(cgroupMount)
	if err != nil {
		return nil, fmt.Errorf("list cgroup hierarchies: %w", err)
	}
	var roots []string
	for _, entry := range entries {
		if entry.IsDir() {
			roots = append(roots, filepath.Join(cgroupMount, entry.Name()))
		}
	}
	return roots, nil
}

// makeCgroup creates a top-level cgroup in every hierarchy, ready to hold a kubelet's pods.
func makeCgroup(name string) error {
	roots, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if err := errors.Join(inheritCpuset(root, dir), delegateControllers(root, dir)); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// inheritCpuset copies the parent's CPUs and memory nodes, which a new v1 cpuset does not have.
func inheritCpuset(root, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), value, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// delegateControllers enables all controllers of a v2 hierarchy for dir and what is below it.
func delegateControllers(root, dir string) error {
	controllers, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	enable := []byte("+" + strings.Join(strings.Fields(string(controllers)), " +"))
	return errors.Join(
		os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), enable, 0o644),
		os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), enable, 0o644),
	)
}

// removeCgroups removes the named lab's cgroups. Their processes must have ended; the kernel may take
// a moment to notice that they have.
func removeCgroups(ctx context.Context, lab string) error {
	roots, err := cgroupHierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		tops, err := filepath.Glob(filepath.Join(root, namespacePrefix+lab+"-*"))
		if err != nil {
			return err
		}
		for _, top := range tops {
			if err := await(ctx, "cgroup to empty", func(context.Context) error { return removeTree(top) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeTree removes a cgroup and those below it, children first. The files in it go by themselves.
func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := os.Remove(dir); err != nil {
			return err
		}
	}
	return nil
}
