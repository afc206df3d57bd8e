package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/hashicorp/consul/api"
)

// RevokeToken deletes the Consul token with that accessor. Undo makes the same token again, with the
// same secret and rights.
func (c *Cluster) RevokeToken(ctx context.Context, accessor string) (Undo, error) {
	server, err := c.consulThatServes(ctx)
	if err != nil {
		return nil, fmt.Errorf("revoke Consul token %s: %w", accessor, err)
	}
	acl := server.ACL()
	token, _, err := acl.TokenRead(accessor, new(api.QueryOptions).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("revoke Consul token %s: %w", accessor, err)
	}
	if _, err := acl.TokenDelete(accessor, new(api.WriteOptions).WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("revoke Consul token %s: %w", accessor, err)
	}
	return func(ctx context.Context) error {
		if _, _, err := acl.TokenRead(accessor, new(api.QueryOptions).WithContext(ctx)); err == nil {
			return nil // made again before
		}
		again := &api.ACLToken{
			AccessorID:     token.AccessorID,
			SecretID:       token.SecretID,
			Description:    token.Description,
			Policies:       token.Policies,
			Roles:          token.Roles,
			NodeIdentities: token.NodeIdentities,
			Local:          token.Local,
		}
		if _, _, err := acl.TokenCreate(again, new(api.WriteOptions).WithContext(ctx)); err != nil {
			return fmt.Errorf("restore Consul token %s: %w", accessor, err)
		}
		return nil
	}, nil
}

// WipeConsulServers makes the Consul servers forget all they knew, as when their disks were lost: they
// come back with no entry and a lower index. The lab's tokens are made again, those of a lab that has
// joined it too, as an administrator would. There is nothing to undo: entries are for others to make.
func (c *Cluster) WipeConsulServers(ctx context.Context) error {
	var starts []Undo
	for _, server := range c.Topology.consulServers() {
		start, err := c.Kill(ctx, server+"/consul")
		if err != nil {
			return fmt.Errorf("wipe the Consul servers: %w", err)
		}
		starts = append(starts, start)
		if err := os.RemoveAll(c.consulData(server)); err != nil {
			return fmt.Errorf("wipe the Consul servers: %w", err)
		}
	}
	for _, start := range starts {
		if err := start(ctx); err != nil {
			return fmt.Errorf("wipe the Consul servers: %w", err)
		}
	}
	labs := []*Cluster{c}
	others, err := joined(c.Name)
	for _, name := range others {
		other, openErr := Open(name)
		if err = errors.Join(err, openErr); openErr == nil {
			labs = append(labs, other)
		}
	}
	if err != nil {
		return fmt.Errorf("wipe the Consul servers: %w", err)
	}
	for _, lab := range labs {
		if err := await(ctx, "wiped Consul servers with the tokens of lab "+lab.Name, lab.createTokens); err != nil {
			return err
		}
	}
	return nil
}
