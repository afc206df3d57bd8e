package kube

import (
	"context"
	"encoding/json"
	"fmt"
)

// SigningKeys asks the API server for the issuer of the cluster's service
// account tokens and the keys that check them, as a JSON Web Key Set. Every
// service account may read them (ClusterRole
// system:service-account-issuer-discovery).
func SigningKeys(ctx context.Context, client *Client) (issuer string, keys []byte, err error) {
	const discovery = "/.well-known/openid-configuration"
	data, err := client.read(ctx, discovery)
	if err != nil {
		return "", nil, err
	}
	var config struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return "", nil, fmt.Errorf("get %s: %w", discovery, err)
	}
	// Not the address that the answer names: that one is for others, and may be
	// outside of the cluster.
	keys, err = client.read(ctx, "/openid/v1/jwks")
	return config.Issuer, keys, err
}
