package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/lab/cluster"
)

// process is a program of Fairway that runs on a host as a process of its own.
type process struct {
	what    string // for messages
	cmd     *exec.Cmd
	log     string
	started time.Time
	ended   chan error // has room for one
}

// build builds a command as a release does, and returns its path.
func build(ctx context.Context, command string) (string, error) {
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	b := gobuild.Build{
		Name: command, Dir: checkout.Root, Packages: []string{"./cmd/" + command},
		Out: filepath.Join(cache, "fairway-lab", "bench"), Log: os.Stderr,
	}
	return filepath.Join(b.Out, command), b.Run(ctx)
}

// start starts a program, with these variables beside its PATH.
func start(host *cluster.Host, program string, args []string, env ...string) (*process, error) {
	what := filepath.Base(program)
	log, err := os.CreateTemp("", "bench-"+what+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// nsenter becomes the program: the process is the program's own.
	p := &process{what: what, cmd: host.Command(context.Background(), program, args...), log: log.Name(), ended: make(chan error, 1)}
	p.cmd.Env = append([]string{"PATH=/usr/bin"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", what, err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return p, nil
}

// again starts a process several times, each when the one before has stopped. The
// last runs on.
func again(times int, start func() (*process, error)) (p *process, err error) {
	for range times {
		if p != nil {
			if err := p.stop(); err != nil {
				return nil, err
			}
		}
		if p, err = start(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// stop asks the process to stop and waits until it has. Its log is kept only if
// that is an error.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.what, err)
	}
	if err := <-p.ended; err != nil {
		return fmt.Errorf("%s ended with %w; its log is %s", p.what, err, p.log)
	}
	return os.Remove(p.log)
}

// usage is what a process has used so far.
type usage struct {
	at        time.Time
	cpu       time.Duration
	rss, peak float64 // MiB
}

// clockTick is the unit of times in /proc; see proc(5).
const clockTick = time.Second / 100

func (p *process) usage() (usage, error) {
	folder := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	u := usage{at: time.Now()}
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil {
		return u, fmt.Errorf("look at %s: %w", p.what, err)
	}
	// Field 3 is the first after the command's name, which may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const user, system = 14 - 3, 15 - 3
	for _, field := range []int{user, system} {
		ticks, err := strconv.Atoi(fields[field])
		if err != nil {
			return u, fmt.Errorf("read %s/stat: %w", folder, err)
		}
		u.cpu += time.Duration(ticks) * clockTick
	}
	status, err := os.ReadFile(filepath.Join(folder, "status"))
	if err != nil {
		return u, fmt.Errorf("look at %s: %w", p.what, err)
	}
	for line := range strings.Lines(string(status)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			u.rss = round2(kib / 1024)
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			u.peak = round2(kib / 1024)
		}
	}
	return u, nil
}

func round2(x float64) float64 { return math.Round(100*x) / 100 }
