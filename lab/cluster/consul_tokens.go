package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/consul/api"
)

// consulToken is a token of the lab, kept in a file so that a later process knows it too.
type consulToken struct {
	AccessorID string `json:"accessorID"`
	SecretID   string `json:"secretID"`
}

// Names of the tokens that every lab has. Each client agent has one more.
const (
	managementToken = "management"
	// AgentToken is for a Fairway that registers with the nodes' client agents.
	AgentToken = "fairway"
	// CatalogToken is for a Fairway that registers with the servers.
	CatalogToken = "fairway-catalog"
)

func agentToken(node string) string { return "agent-" + node }

// makeTokens invents the secrets of all tokens. Consul learns of them once it has a leader. One it knows
// already, if the lab joins another: its administrator's.
func (c *Cluster) makeTokens() error {
	tokens := map[string]consulToken{}
	names := []string{managementToken, AgentToken, CatalogToken}
	if c.ConsulAgents {
		for _, node := range c.nodeNames() {
			names = append(names, agentToken(node))
		}
	}
	for _, name := range names {
		tokens[name] = consulToken{AccessorID: newUUID(), SecretID: newUUID()}
	}
	if c.Join != "" {
		other, err := Open(c.Join)
		if err != nil {
			return err
		}
		tokens[managementToken] = other.tokens[managementToken]
	}
	for name, token := range tokens {
		if err := writeJSON(c.tokenPath(name), token); err != nil {
			return fmt.Errorf("write Consul token %s: %w", name, err)
		}
	}
	return nil
}

func (c *Cluster) readTokens() error {
	paths, err := filepath.Glob(c.tokenPath("*"))
	if err != nil {
		return err
	}
	c.tokens = map[string]consulToken{}
	for _, path := range paths {
		var token consulToken
		if err := readJSON(path, &token); err != nil {
			return err
		}
		c.tokens[strings.TrimSuffix(filepath.Base(path), ".json")] = token
	}
	return nil
}

// ConsulToken is the secret of a token: AgentToken, CatalogToken, "management", or "agent-" and a node's
// name. It is empty if the lab has no such token.
func (c *Cluster) ConsulToken(name string) string { return c.tokens[name].SecretID }

// ConsulAccessor is the public ID of a token, by which it can be revoked.
func (c *Cluster) ConsulAccessor(name string) string { return c.tokens[name].AccessorID }

// ReplaceToken makes another token with the same rights, AgentToken's or CatalogToken's; from then on it
// is the one of that name. The old one is left as it is.
func (c *Cluster) ReplaceToken(ctx context.Context, name string) error {
	token := consulToken{AccessorID: newUUID(), SecretID: newUUID()}
	server, err := c.consulThatServes(ctx)
	if err != nil {
		return fmt.Errorf("replace Consul token %s: %w", name, err)
	}
	_, _, err = server.ACL().TokenCreate(&api.ACLToken{
		AccessorID: token.AccessorID, SecretID: token.SecretID, Description: name,
		Policies: []*api.ACLLink{{Name: c.ConsulName(name)}},
	}, new(api.WriteOptions).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("replace Consul token %s: %w", name, err)
	}
	c.tokens[name] = token
	return writeJSON(c.tokenPath(name), token)
}

func (c *Cluster) tokenPath(name string) string { return c.path("consul-tokens", name+".json") }

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, see crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
