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

	"fairway.dev/fairway/internal/app/agent"
	"fairway.dev/fairway/lab/cluster"
)

// agentProcess is an agent that runs on the node as a process of its own.
type agentProcess struct {
	cmd     *exec.Cmd
	log     string
	started time.Time
	ended   chan error // has room for one
}

// startAgent starts the agent for the row's pods. It watches a node of its own,
// unless the pods are containers.
func (b *agentBench) startAgent(s rowSpec) (*agentProcess, error) {
	consul := "http://127.0.0.1:8500"
	if s.registry == agent.RegistryCatalog {
		consul = "http://" + b.lab.Host("consul-1").Addr.String() + ":8500"
	}
	args := []string{
		"--cluster-id=" + cluster.ClusterID, "--registry=" + s.registry, "--consul-address=" + consul, "--consul-token-file=" + b.tokens[s.registry],
		"--kubeconfig=" + b.lab.Kubeconfig(), "--node-address=" + b.lab.Host(b.node).Addr.String(),
	}
	if s.containers {
		folder, socket := b.lab.PodsAPI()
		args = append(args, "--node-name="+b.node, "--pods-api-socket="+filepath.Join(folder, strings.ReplaceAll(socket, "$(NODE_NAME)", b.node)))
	} else {
		args = append(args, "--node-name="+objectsNode, "--pod-source=informer")
	}
	log, err := os.CreateTemp("", "bench-agent-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// nsenter becomes the agent: the process is the agent's own.
	p := &agentProcess{cmd: b.lab.Host(b.node).Command(context.Background(), b.program, args...), log: log.Name(), ended: make(chan error, 1)}
	p.cmd.Env = []string{"PATH=/usr/bin"}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	return p, nil
}

// stop asks the agent to stop and waits until it has. Its log is kept only if
// that is an error.
func (p *agentProcess) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the agent: %w", err)
	}
	if err := <-p.ended; err != nil {
		return fmt.Errorf("the agent ended with %w; its log is %s", err, p.log)
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

func (p *agentProcess) usage() (usage, error) {
	folder := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	u := usage{at: time.Now()}
	stat, err := os.ReadFile(filepath.Join(folder, "stat"))
	if err != nil {
		return u, fmt.Errorf("look at the agent: %w", err)
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
		return u, fmt.Errorf("look at the agent: %w", err)
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

// writeTokens writes the files with the tokens, by registry.
func writeTokens(lab *cluster.Cluster) (map[string]string, error) {
	folder, err := os.MkdirTemp("", "bench-tokens-")
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for registry, token := range map[string]string{agent.RegistryAgent: cluster.AgentToken, agent.RegistryCatalog: cluster.CatalogToken} {
		files[registry] = filepath.Join(folder, registry)
		if err := os.WriteFile(files[registry], []byte(lab.ConsulToken(token)), 0o600); err != nil {
			return nil, err
		}
	}
	return files, nil
}
