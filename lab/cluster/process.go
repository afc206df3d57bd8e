package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a server of the lab. Its record is on disk, so that another program can stop or start it.
type Process struct {
	Host string   `json:"host"`
	Name string   `json:"name"`
	Args []string `json:"args"`
	Env  []string `json:"env,omitempty"`
	// Address is where the process answers once it is of use: IP:PORT in its host, or a socket's path.
	Address string `json:"address"`
	PID     int    `json:"pid"`
	// Started is the start time from /proc. Together with PID it names one process for ever; a process
	// that was given the same PID later is not ours and is never signalled.
	Started uint64 `json:"started"`
}

// ID is HOST/NAME.
func (p *Process) ID() string { return p.Host + "/" + p.Name }

// Log is the path of the process's log. A restarted process appends to it.
func (c *Cluster) Log(p *Process) string { return c.path(p.Host, p.Name+".log") }

func (c *Cluster) recordPath(p *Process) string { return c.path(p.Host, p.Name+recordSuffix) }

const recordSuffix = ".process.json"

// start runs p in its host, in a session of its own, and records it. It does not wait for readiness.
func (c *Cluster) start(p *Process) error {
	host := c.Host(p.Host)
	if err := os.MkdirAll(c.path(p.Host), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(c.Log(p), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.ID(), err)
	}
	defer log.Close()
	// A server outlives the program that starts it, so no context may end it.
	cmd := exec.CommandContext(context.Background(), "nsenter", host.enter(p.Args[0], p.Args[1:]...)...)
	cmd.Dir = c.path(p.Host)
	// A server of the lab takes its settings from the lab alone, not from who happened to start it.
	cmd.Env = append([]string{"PATH=" + toolPath, "HOME=" + c.path(p.Host)}, p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.ID(), err)
	}
	stat, err := readStat(cmd.Process.Pid)
	// Waiting reaps the child. It comes after the stat, which even a child that died at once still has.
	go func() { _ = cmd.Wait() }()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.ID(), err)
	}
	p.PID, p.Started = cmd.Process.Pid, stat.started
	return writeJSON(c.recordPath(p), p)
}

// Run starts p as one more server of its host, and returns when it takes connections at p.Address. Undo
// ends it, or what has been started in its place since, and forgets it.
func (c *Cluster) Run(ctx context.Context, p *Process) (Undo, error) {
	if err := c.start(p); err != nil {
		return nil, err
	}
	undo := func(ctx context.Context) error {
		err := readJSON(c.recordPath(p), p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // undone before
		}
		if err == nil {
			err = c.stop(ctx, p)
		}
		if err != nil {
			return err
		}
		return os.Remove(c.recordPath(p))
	}
	if err := c.Start(ctx, p.ID()); err != nil {
		return nil, errors.Join(err, undo(context.WithoutCancel(ctx)))
	}
	return undo, nil
}

// stopGrace is how long a process may take to end by itself.
const stopGrace = 10 * time.Second

// stop ends p: politely first, by force after stopGrace. It returns when p is gone.
func (c *Cluster) stop(ctx context.Context, p *Process) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	polite, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	if p.awaitEnd(polite) == nil {
		return nil
	}
	return c.kill(ctx, p)
}

func (c *Cluster) kill(ctx context.Context, p *Process) error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return p.awaitEnd(ctx)
}

func (p *Process) awaitEnd(ctx context.Context) error {
	return await(ctx, "the end of "+p.ID(), func(context.Context) error {
		if p.Alive() {
			return fmt.Errorf("process %d still runs", p.PID)
		}
		return nil
	})
}

// signal sends sig to p, unless p has ended. The handle (a pidfd) is taken before the identity is
// checked, so the signal cannot reach a process that took over the PID in between.
func (p *Process) signal(sig syscall.Signal) error {
	handle, err := os.FindProcess(p.PID)
	if err != nil {
		return nil
	}
	defer handle.Release()
	if !p.Alive() {
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.ID(), err)
	}
	return nil
}

// Alive reports whether the recorded process still runs (or is paused).
func (p *Process) Alive() bool {
	state := p.State()
	return state == "running" || state == "paused"
}

// State is "running", "paused" or "ended".
func (p *Process) State() string {
	stat, err := readStat(p.PID)
	switch {
	case err != nil || stat.started != p.Started || stat.ended():
		return "ended"
	case stat.state == 'T' && p.threadsPaused():
		return "paused"
	}
	return "running"
}

// threadsPaused tells whether the signal that pauses has reached every thread: it stops them one after
// the other.
func (p *Process) threadsPaused() bool {
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(p.PID), "task"))
	if err != nil {
		return false
	}
	for _, thread := range threads {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.PID), "task", thread.Name(), "stat"))
		if err != nil {
			return false
		}
		if stat, err := parseStat(string(data)); err != nil || stat.state != 'T' {
			return false
		}
	}
	return true
}

type procStat struct {
	state   byte
	threads int
	started uint64
}

// ended is true once the last thread is gone. A zombie may only be the first thread: those that still
// die behind it hold the process's sockets and locks, and its successor could take neither.
func (s procStat) ended() bool {
	return s.state == 'X' || s.state == 'Z' && s.threads <= 1
}

// readStat reads the fields of /proc/PID/stat that identify a process; see proc(5).
func readStat(pid int) (procStat, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(data))
}

// parseStat skips the command's name by its last parenthesis, for the name may hold anything.
func parseStat(line string) (procStat, error) {
	_, rest, _ := strings.Cut(line[strings.LastIndexByte(line, ')')+1:], " ")
	fields := strings.Fields(rest)
	const threadCount, startTime = 20 - 3, 22 - 3 // field 3 is the first one after the name
	if len(fields) <= startTime {
		return procStat{}, fmt.Errorf("parse process status %q", line)
	}
	threads, threadsErr := strconv.Atoi(fields[threadCount])
	started, err := strconv.ParseUint(fields[startTime], 10, 64)
	return procStat{state: fields[0][0], threads: threads, started: started}, errors.Join(threadsErr, err)
}

// Processes lists the recorded processes, ordered by ID.
func (c *Cluster) Processes() ([]*Process, error) {
	paths, err := filepath.Glob(c.path("*", "*"+recordSuffix))
	if err != nil {
		return nil, err
	}
	var list []*Process
	for _, path := range paths {
		p := new(Process)
		err := readJSON(path, p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Process) int { return strings.Compare(a.ID(), b.ID()) })
	return list, nil
}

// Process finds a process by its ID, such as n1/kubelet.
func (c *Cluster) Process(id string) (*Process, error) {
	host, name, ok := strings.Cut(id, "/")
	if !ok {
		return nil, fmt.Errorf("process %q: want HOST/NAME, such as n1/kubelet", id)
	}
	p := &Process{Host: host, Name: name}
	err := readJSON(c.recordPath(p), p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("lab %s has no process %s", c.Name, id)
	}
	if err != nil {
		return nil, fmt.Errorf("process %s: %w", id, err)
	}
	return p, nil
}

// tail returns the last lines of p's log, to be shown in an error.
func (c *Cluster) tail(p *Process, lines int) string {
	data, err := os.ReadFile(c.Log(p))
	if err != nil {
		return err.Error()
	}
	all := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeFile writes a file that only root may read, whole or not at all.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
