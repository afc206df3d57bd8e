package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
)

// StateDir holds one folder for each lab.
const StateDir = "/var/lib/fairway-lab"

// lockDir holds one lock for each lab that is being brought up or down. It is emptied by a reboot.
const lockDir = "/run/fairway-lab"

var (
	// ErrRunning is returned by Up for a lab that is there already.
	ErrRunning = errors.New("lab is already up")
	// ErrNotFound is returned by Open for a lab that is not there.
	ErrNotFound = errors.New("no such lab")
)

// Cluster is a lab that is, or was, up. It holds no connection and no lock: it is a view of what is on
// disk, and several processes may use one lab at once.
type Cluster struct {
	Topology
	record
	hosts  []*Host
	admin  *rest.Config
	tokens map[string]consulToken
	owner  *os.File // held open by the process that a lab belongs to, see UpOwned
}

// record is what is kept of a lab besides its topology.
type record struct {
	// Programs is where the servers' programs are, by name.
	Programs map[string]string `json:"programs"`
	// Images are the image files that every node has from the start.
	Images []string `json:"images"`
	// Up is when the lab was complete. A record without it is of an Up that failed or was killed.
	Up time.Time `json:"up,omitzero"`
}

// stateFile is below the lab's folder.
const stateFile = "lab.json"

type savedState struct {
	Topology Topology `json:"topology"`
	record
}

func newCluster(t Topology, r record) *Cluster {
	return &Cluster{Topology: t, record: r, hosts: t.known()}
}

// Open finds a lab that Up completed, in this process or another.
func Open(name string) (*Cluster, error) {
	c, err := load(name)
	if err != nil {
		return nil, err
	}
	if c.Up.IsZero() {
		return nil, fmt.Errorf("open lab %s: it was never completed; logs are in %s", name, c.path())
	}
	if err := c.readCredentials(); err != nil {
		return nil, fmt.Errorf("open lab %s: %w", name, err)
	}
	return c, nil
}

// load reads a lab's record, complete or not.
func load(name string) (*Cluster, error) {
	var s savedState
	err := readJSON(filepath.Join(StateDir, name, stateFile), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open lab %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", name, err)
	}
	return newCluster(s.Topology, s.record), nil
}

func (c *Cluster) save() error {
	return writeJSON(c.path(stateFile), savedState{Topology: c.Topology, record: c.record})
}

// readCredentials reads what the administrator's clients need, so that making one cannot fail later.
func (c *Cluster) readCredentials() error {
	return errors.Join(c.readAdmin(), c.readTokens())
}

// Host returns the host of that name, or nil.
func (c *Cluster) Host(name string) *Host {
	for _, h := range c.hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Nodes names the hosts that are Kubernetes nodes.
func (c *Cluster) Nodes() []string { return c.nodeNames() }

// path is a path below the lab's folder.
func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{StateDir, c.Name}, elem...)...)
}

func (c *Cluster) bin(name string) string { return c.Programs[name] }

// lock keeps other processes from bringing the named lab up or down until the returned function is
// called. The lock goes with its process, however that ends.
func lock(name string) (unlock func(), err error) {
	f, err := openLock(name + ".lock")
	if errors.Is(err, errLocked) {
		return nil, fmt.Errorf("lab %s is being brought up or down by another process", name)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

var errLocked = errors.New("another process holds the lock")

// openLock takes a lock that lasts until the file is closed or the process ends.
func openLock(name string) (*os.File, error) {
	if err := os.MkdirAll(lockDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(lockDir, name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%w: %w", errLocked, err)
	}
	return f, nil
}
