package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"
)

// consulConfig is the part of Consul's configuration file that the lab uses.
type consulConfig struct {
	NodeName        string   `json:"node_name"`
	NodeID          string   `json:"node_id"`
	DataDir         string   `json:"data_dir"`
	BindAddr        string   `json:"bind_addr"`
	ClientAddr      string   `json:"client_addr"`
	Server          bool     `json:"server,omitempty"`
	BootstrapExpect int      `json:"bootstrap_expect,omitempty"`
	RetryJoin       []string `json:"retry_join"`
	RetryInterval   string   `json:"retry_interval"`
	// A stop in the lab is a restart. An agent that left would take its services with it.
	LeaveOnTerminate   bool           `json:"leave_on_terminate"`
	SkipLeaveOnInt     bool           `json:"skip_leave_on_interrupt"`
	DisableUpdateCheck bool           `json:"disable_update_check"`
	DisableHostNodeID  bool           `json:"disable_host_node_id"`
	Ports              map[string]int `json:"ports,omitempty"`
	Performance        map[string]any `json:"performance"`
	Autopilot          map[string]int `json:"autopilot,omitempty"`
	Connect            map[string]any `json:"connect"`
	Peering            map[string]any `json:"peering"`
	ACL                consulACL      `json:"acl"`
}

type consulACL struct {
	Enabled       bool              `json:"enabled"`
	DefaultPolicy string            `json:"default_policy"`
	DownPolicy    string            `json:"down_policy"`
	Tokens        map[string]string `json:"tokens"`
}

// ClusterID is the ClusterID of every lab that joins no other.
const ClusterID = "lab"

// ClusterID is how Fairway is to call the lab's Kubernetes cluster in Consul: the rights of CatalogToken
// hold for that cluster alone.
func (t Topology) ClusterID() string {
	if t.Join != "" {
		return t.Name
	}
	return ClusterID
}

// ConsulName is the name in Consul of something that each of two clusters has, such as a policy.
func (t Topology) ConsulName(name string) string {
	if t.Join != "" {
		return name + "-" + t.Name
	}
	return name
}

// fairwayRules are the rights of Fairway's agents by the name of their token: those that
// docs/registries.md lists, and no others.
func fairwayRules(clusterID string) map[string]string {
	return map[string]string{
		AgentToken: `
agent_prefix ""   { policy = "read" }
node_prefix ""    { policy = "read" }
service_prefix "" { policy = "write" }
`,
		CatalogToken: `
node_prefix "fairway-` + clusterID + `-" { policy = "write" }
node_prefix ""              { policy = "read" }
service_prefix ""           { policy = "write" }
`,
	}
}

// consulConfig makes the configuration of the agent on h; servers have more in it.
func (c *Cluster) consulConfig(h *Host, nodeID string, tokens map[string]string) consulConfig {
	config := consulConfig{
		NodeName: h.Name,
		// A fixed ID, so that an agent that lost its data is still the same node to the servers.
		NodeID:             nodeID,
		DataDir:            c.consulData(h.Name),
		BindAddr:           h.Addr.String(),
		ClientAddr:         "0.0.0.0",
		RetryInterval:      "1s",
		SkipLeaveOnInt:     true,
		DisableUpdateCheck: true,
		DisableHostNodeID:  true,
		Performance:        map[string]any{"raft_multiplier": 1},
		Connect:            map[string]any{"enabled": false},
		Peering:            map[string]any{"enabled": false},
		ACL: consulACL{
			Enabled:       true,
			DefaultPolicy: "deny",
			DownPolicy:    "extend-cache",
			Tokens:        tokens,
		},
	}
	if !h.Pods.IsValid() {
		config.Server, config.BootstrapExpect = true, consulServers
		config.Ports = map[string]int{"dns": 53} // the resolver of the nodes
		// Else autopilot takes a server that is away for 10 s out of the quorum, and the next fault of one
		// stops the other. It is Consul's advice for three servers.
		config.Autopilot = map[string]int{"min_quorum": consulServers}
		// Servers that were all down at once must know the nodes before one of them leads: a new leader
		// takes every node out of the catalog that it has not heard of (reconcileReaped in Consul's
		// leader.go). By themselves they may rejoin each other first, and then it has heard of none.
		for _, node := range c.nodeNames() {
			config.RetryJoin = append(config.RetryJoin, c.Host(node).Addr.String())
		}
	}
	for _, server := range c.consulServers() {
		config.RetryJoin = append(config.RetryJoin, c.Host(server).Addr.String())
	}
	return config
}

func (c *Cluster) consulData(host string) string { return c.path(host, "consul") }

// startConsul returns when the servers have a leader and every agent is an alive member. A lab that
// joins another has nothing to start: it only becomes known.
func (c *Cluster) startConsul(ctx context.Context) error {
	if c.Join != "" {
		if err := c.createTokens(ctx); err != nil {
			return fmt.Errorf("become known to the Consul of lab %s: %w", c.Join, err)
		}
		return nil
	}
	management := c.ConsulToken(managementToken)
	var agents []*Process
	for _, name := range c.consulServers() {
		p, err := c.startConsulAgent(name, map[string]string{
			"initial_management": management, "agent": management, "dns": management,
		})
		if err != nil {
			return err
		}
		agents = append(agents, p)
	}
	// Tokens exist before their agents ask with them: a refusal is remembered for a while.
	err := c.awaitServers(ctx, "Consul's leader and tokens", agents, c.createTokens)
	if err != nil || !c.ConsulAgents {
		return err
	}
	for _, node := range c.nodeNames() {
		p, err := c.startConsulAgent(node, map[string]string{"agent": c.ConsulToken(agentToken(node))})
		if err != nil {
			return err
		}
		agents = append(agents, p)
	}
	return c.awaitServers(ctx, "all Consul members", agents, c.consulComplete)
}

func (c *Cluster) startConsulAgent(host string, tokens map[string]string) (*Process, error) {
	file := c.path(host, "consul.json")
	if err := writeJSON(file, c.consulConfig(c.Host(host), newUUID(), tokens)); err != nil {
		return nil, err
	}
	p := &Process{
		Host: host, Name: "consul",
		Args:    []string{c.bin("consul"), "agent", "-config-file=" + file},
		Address: netip.AddrPortFrom(loopback(), consulHTTPPort).String(),
	}
	return p, c.start(p)
}

// createTokens makes the tokens known to Consul. It may be called again after a failure.
func (c *Cluster) createTokens(ctx context.Context) error {
	consul := c.Consul(c.consulServers()[0])
	write := new(api.WriteOptions).WithContext(ctx)
	for name, rules := range fairwayRules(c.ClusterID()) {
		policyName := c.ConsulName(name)
		policy, _, err := consul.ACL().PolicyReadByName(policyName, new(api.QueryOptions).WithContext(ctx))
		if err == nil && policy == nil {
			policy, _, err = consul.ACL().PolicyCreate(&api.ACLPolicy{Name: policyName, Rules: rules}, write)
		}
		if err != nil {
			return err
		}
		if err := c.createToken(ctx, consul, name, &api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}); err != nil {
			return err
		}
	}
	if !c.ConsulAgents {
		return nil
	}
	for _, node := range c.nodeNames() {
		identity := &api.ACLNodeIdentity{NodeName: node, Datacenter: "dc1"}
		if err := c.createToken(ctx, consul, agentToken(node), &api.ACLToken{NodeIdentities: []*api.ACLNodeIdentity{identity}}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) createToken(ctx context.Context, consul *api.Client, name string, token *api.ACLToken) error {
	ids := c.tokens[name]
	token.AccessorID, token.SecretID, token.Description = ids.AccessorID, ids.SecretID, name
	_, _, err := consul.ACL().TokenRead(ids.AccessorID, new(api.QueryOptions).WithContext(ctx))
	if err == nil {
		return nil
	}
	if _, _, err := consul.ACL().TokenCreate(token, new(api.WriteOptions).WithContext(ctx)); err != nil {
		return fmt.Errorf("create Consul token %s: %w", name, err)
	}
	return nil
}

// consulComplete says which host is not yet a healthy node in the catalog, as the first server sees it.
func (c *Cluster) consulComplete(ctx context.Context) error {
	consul := c.Consul(c.consulServers()[0])
	hosts := c.consulServers()
	if c.ConsulAgents {
		hosts = append(hosts, c.nodeNames()...)
	}
	for _, host := range hosts {
		checks, _, err := consul.Health().Node(host, new(api.QueryOptions).WithContext(ctx))
		if err != nil {
			return err
		}
		if checks.AggregatedStatus() != api.HealthPassing || len(checks) == 0 {
			return fmt.Errorf("consul on %s is not passing", host)
		}
	}
	return nil
}

// consulThatServes is a server that reaches the leader: one that was cut off a moment ago may not yet.
func (c *Cluster) consulThatServes(ctx context.Context) (*api.Client, error) {
	var errs []error
	for _, host := range c.consulServers() {
		server := c.Consul(host)
		if _, _, err := server.Catalog().Nodes((&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", host, err))
			continue
		}
		return server, nil
	}
	return nil, errors.Join(errs...)
}

// Consul is a client of the Consul agent on the named host, with the management token, as seen from
// the client host. It panics if the lab has no such host.
func (c *Cluster) Consul(host string) *api.Client {
	client, err := api.NewClient(&api.Config{
		Address: netip.AddrPortFrom(c.Host(host).Addr, consulHTTPPort).String(),
		Token:   c.ConsulToken(managementToken),
		Transport: &http.Transport{
			DialContext:         c.Host(clientHost).Dial,
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     time.Minute,
		},
	})
	if err != nil {
		panic(err) // only for a malformed address
	}
	return client
}

// ConsulServers is a client of each Consul server.
func (c *Cluster) ConsulServers() []*api.Client {
	var clients []*api.Client
	for _, host := range c.consulServers() {
		clients = append(clients, c.Consul(host))
	}
	return clients
}
