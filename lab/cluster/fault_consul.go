package cluster

import (
	"context"
	"fmt"

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
