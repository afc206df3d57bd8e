// Package consultest runs a real Consul for tests: a server with ACLs that
// deny by default and, if asked for, a client agent, as on a node. Each listens
// on a loopback address of its own, and both end with the test.
package consultest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/lab/servers"
)

// FairwayRules are the ACL rules that a node agent of Fairway needs to register
// with the node's Consul agent.
const FairwayRules = `
agent_prefix ""   { policy = "read" }
node_prefix ""    { policy = "read" }
service_prefix "" { policy = "write" }
`

// CatalogRules are those that it needs to register with the servers, as cluster
// "east".
const CatalogRules = `
node_prefix "fairway-east-" { policy = "write" }
node_prefix ""              { policy = "read" }
service_prefix ""           { policy = "write" }
`

// ControllerRules are those that fairway-controller needs of cluster "east".
const ControllerRules = `
node_prefix "fairway-east-" { policy = "write" }
service_prefix ""           { policy = "read" }
`

// ExportRules are those that fairway-controller needs to publish Services of cluster
// "east".
const ExportRules = `
node_prefix "fairway-east-services-" { policy = "write" }
service_prefix ""                    { policy = "write" }
`

// ImportRules are those that it needs to import services; to import from a cluster
// peer there is PeerRule besides.
const (
	ImportRules = `
node_prefix ""    { policy = "read" }
service_prefix "" { policy = "read" }
`
	PeerRule = `peering = "read"`
)

// ReaperRules are those that fairway-reaper needs.
const ReaperRules = `
node_prefix "fairway-" { policy = "write" }
node_prefix ""         { policy = "read" }
service_prefix ""      { policy = "read" }
`

// management is the token that may do everything.
const management = "6d616e61-6765-6d65-6e74-746f6b656e21"

// wait bounds every wait for Consul.
const wait = 30 * time.Second

// Cluster is a Consul server and perhaps a client agent.
type Cluster struct {
	Server *Agent
	// Client is the agent that a node's programs talk to, nil if not asked for.
	Client *Agent
}

// Agent is one Consul process.
type Agent struct {
	Node    string // its name in the catalog
	Address string // http://127.83.x.y:8500

	t      testing.TB
	ip     string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
}

// Start starts a server and waits until it leads; with a client agent also
// until that one is in the catalog. The server gets the extra configuration.
func Start(t testing.TB, withClient bool, extra ...map[string]any) *Cluster {
	t.Helper()
	config := map[string]any{
		"server":           true,
		"bootstrap_expect": 1,
		"performance":      map[string]any{"raft_multiplier": 1},
	}
	for _, more := range extra {
		maps.Copy(config, more)
	}
	c := &Cluster{Server: newAgent(t, "server", config)}
	c.Server.Start()
	if withClient {
		c.Client = newAgent(t, "node-1", map[string]any{
			"retry_join":     []string{c.Server.ip},
			"retry_interval": "250ms",
		})
		c.Client.Start()
	}
	c.WaitReady()
	return c
}

func (c *Cluster) agents() []*Agent {
	if c.Client == nil {
		return []*Agent{c.Server}
	}
	return []*Agent{c.Server, c.Client}
}

// WaitReady waits until the server leads and has every agent in its catalog.
func (c *Cluster) WaitReady() {
	c.Server.t.Helper()
	for _, agent := range c.agents() {
		Eventually(agent.t, "agent "+agent.Node+" is in the catalog and can ask the leader", func() error {
			checks, meta, err := agent.API(management).Health().Node(agent.Node, &api.QueryOptions{RequireConsistent: true})
			switch {
			case err != nil:
				return err
			case !meta.KnownLeader:
				return errors.New("no leader")
			}
			for _, check := range checks {
				if check.CheckID == "serfHealth" && check.Status == api.HealthPassing {
					return nil
				}
			}
			return errors.New("no passing serfHealth")
		})
	}
}

// Node is the agent that programs should talk to.
func (c *Cluster) Node() *Agent {
	if c.Client != nil {
		return c.Client
	}
	return c.Server
}

// Management is a client of the server that may do everything.
func (c *Cluster) Management() *api.Client { return c.Server.API(management) }

// ManagementToken is the token that may do everything.
func (c *Cluster) ManagementToken() string { return management }

// Token makes an ACL token with the rules and returns its secret.
func (c *Cluster) Token(rules string) string {
	t := c.Server.t
	t.Helper()
	token, _, err := c.Management().ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{c.policy(rules)}}, nil)
	if err != nil {
		t.Fatalf("make token: %v", err)
	}
	return token.SecretID
}

// policy makes a policy with the rules.
func (c *Cluster) policy(rules string) *api.ACLLink {
	t := c.Server.t
	t.Helper()
	name := fmt.Sprintf("p%d", time.Now().UnixNano())
	policy, _, err := c.Management().ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil)
	if err != nil {
		t.Fatalf("make policy: %v", err)
	}
	return &api.ACLLink{ID: policy.ID}
}

// Index is the server's raft index: it moves with every write to the log. The
// first call waits until the agents have written what they write of their own
// accord some seconds after they start: details of their nodes, and the leader
// the state of its datacenter.
func (c *Cluster) Index() string {
	t := c.Server.t
	t.Helper()
	for _, agent := range c.agents() {
		Eventually(t, "agent "+agent.Node+" has written its own node's details", func() error {
			node, _, err := c.Management().Catalog().Node(agent.Node, &api.QueryOptions{RequireConsistent: true})
			if err == nil && (node == nil || node.Node == nil || len(node.Node.TaggedAddresses) == 0) {
				err = errors.New("no tagged addresses yet")
			}
			return err
		})
	}
	Eventually(t, "the leader has written the state of its datacenter", func() error {
		_, err := c.Management().Raw().Query("/v1/internal/federation-state/dc1", new(any), nil)
		return err
	})
	self, err := c.Management().Agent().Self()
	if err != nil {
		t.Fatalf("read raft index: %v", err)
	}
	raft, _ := self["Stats"]["raft"].(map[string]any)
	index, _ := raft["last_log_index"].(string)
	if index == "" {
		t.Fatalf("no raft index in %v", raft)
	}
	return index
}

// FairwayClient is Fairway's own client of the agent, with the token in a file.
func (a *Agent) FairwayClient(token string) (client *consul.Client, tokenFile string) {
	a.t.Helper()
	tokenFile = filepath.Join(a.t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(token+"\n"), 0o600); err != nil {
		a.t.Fatal(err)
	}
	client, err := consul.New(consul.Config{
		Address: a.Address, TokenFile: tokenFile, Timeout: 20 * time.Second, UserAgent: "consultest",
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return client, tokenFile
}

// API is Consul's own client of the agent.
func (a *Agent) API(token string) *api.Client {
	a.t.Helper()
	client, err := api.NewClient(&api.Config{
		Address: a.Address, Token: token, HttpClient: &http.Client{Timeout: 20 * time.Second},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return client
}

// newAgent writes an agent's configuration.
func newAgent(t testing.TB, node string, config map[string]any) *Agent {
	t.Helper()
	dir := t.TempDir()
	ip := ownAddress(t)
	own := map[string]any{
		"node_name":            node,
		"data_dir":             filepath.Join(dir, "data"),
		"bind_addr":            ip,
		"client_addr":          ip,
		"ports":                map[string]any{"https": -1, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
		"disable_update_check": true,
		"disable_coordinates":  true, // agents write them to the log now and then
		"leave_on_terminate":   false,
		"log_level":            "warn",
		"connect":              map[string]any{"enabled": false},
		"peering":              map[string]any{"enabled": false},
		"acl": map[string]any{
			"enabled": true, "default_policy": "deny", "down_policy": "extend-cache",
			"tokens": map[string]any{"initial_management": management, "agent": management},
		},
	}
	maps.Copy(own, config)
	data, err := json.MarshalIndent(own, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "consul.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return &Agent{t: t, Node: node, Address: "http://" + ip + ":8500", ip: ip, dir: dir}
}

// Start starts the process, the first time or again with the same data.
func (a *Agent) Start() {
	a.t.Helper()
	log, err := os.OpenFile(filepath.Join(a.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(context.Background(), program(a.t), "agent", "-config-file", filepath.Join(a.dir, "consul.json"))
	cmd.Stdout, cmd.Stderr = log, log
	// Should the test binary be killed, Consul must not outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		a.t.Fatalf("start Consul: %v", err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	if a.cmd == nil {
		a.t.Cleanup(a.end)
	}
	a.cmd, a.exited = cmd, exited
}

// Stop kills the process, as a crash or a power cut would. Its data stays.
func (a *Agent) Stop() {
	_ = a.cmd.Process.Kill()
	<-a.exited
}

// Wipe kills the process and takes its data away.
func (a *Agent) Wipe() {
	a.t.Helper()
	a.Stop()
	if err := os.RemoveAll(filepath.Join(a.dir, "data")); err != nil {
		a.t.Fatal(err)
	}
}

// Pause stops the process where it is until Resume.
//
// The signal stops one thread after the other, so it waits for all of them.
func (a *Agent) Pause() {
	_ = a.cmd.Process.Signal(syscall.SIGSTOP)
	Eventually(a.t, a.Node+" is frozen", func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", a.cmd.Process.Pid))
		if err != nil || len(threads) == 0 {
			return fmt.Errorf("list its threads: %d, %w", len(threads), err)
		}
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			if err != nil {
				return err
			}
			// The state follows the name in parentheses; see proc(5).
			if !bytes.Contains(stat, []byte(") T ")) {
				return fmt.Errorf("a thread still runs: %s", stat)
			}
		}
		return nil
	})
}

// Resume lets a paused process go on.
func (a *Agent) Resume() { _ = a.cmd.Process.Signal(syscall.SIGCONT) }

// end stops the agent at the end of the test, and shows what it logged if the
// test failed.
func (a *Agent) end() {
	a.Stop()
	if !a.t.Failed() {
		return
	}
	log, _ := os.ReadFile(filepath.Join(a.dir, "log"))
	lines := bytes.Split(log, []byte("\n"))
	a.t.Logf("the last lines of Consul agent %s:\n%s", a.Node, bytes.Join(lines[max(0, len(lines)-40):], []byte("\n")))
}

// Eventually waits until try succeeds.
func Eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(wait)
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s: %v", wait, what, err)
		}
		<-look.C
	}
}

// ownAddress is a loopback address that nobody else is given as long as the
// test runs, so that Consul can have its usual ports there. A port that is only
// looked for, and used later, may be somebody else's by then.
func ownAddress(t testing.TB) string {
	t.Helper()
	const reserved = "8999" // held open for as long as the address is taken
	for n := range 60_000 {
		ip := fmt.Sprintf("127.83.%d.%d", n/250, n%250+1)
		held, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(ip, reserved))
		if err == nil {
			t.Cleanup(func() { held.Close() })
			return ip
		}
	}
	t.Fatal("no loopback address is free")
	return ""
}

// program is the path of Consul's program, built if it never was before.
func program(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	bin, err := servers.Ensure(t.Context(), servers.Options{Families: []servers.Family{servers.Consul}, Out: &out})
	if err != nil {
		t.Fatalf("build Consul: %v\n%s", err, out.String())
	}
	return bin.Path("consul")
}
