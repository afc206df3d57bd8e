// Package tokens checks the service-account tokens that pods show to the agent
// of their node, and tells which pod each speaks for.
//
// It does so offline, with the keys that the cluster publishes, because pods
// must be able to stop while the API server is away. What only the API server
// could tell, that a token's pod has been deleted meanwhile, does not matter
// here: a deleted pod's token can do nothing but take that pod out of service.
package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"fairway.dev/fairway/internal/service"
)

// Audience is what a token must have been issued for, so that no token that a
// pod has for something else is of use here, and none for us is of use
// elsewhere.
const Audience = "fairway"

const (
	// leeway is how far the clocks of the node and of the API server may be
	// apart.
	leeway = 30 * time.Second
	// longest is the size of a token that is looked at at all. Kubernetes' are
	// about 1 KiB.
	longest = 8 << 10
)

// The errors of Verify.
var (
	// ErrNoKeys: the cluster's keys were never read, so that nothing can be
	// said about any token. It is to be tried again.
	ErrNoKeys = errors.New("the cluster's signing keys are not known yet")
	// ErrRefused: the token does not show that a pod of this node speaks.
	ErrRefused = errors.New("the token is refused")
)

// claims are those of a bound token that matter here.
// See https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin
type claims struct {
	jwt.Claims
	Kubernetes struct {
		Namespace string `json:"namespace"`
		Pod       object `json:"pod"`
		Node      object `json:"node"`
	} `json:"kubernetes.io"`
}

type object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// Verify returns the pod that the token is bound to. The error is ErrNoKeys,
// or ErrRefused with what is wrong. It never holds the token.
func (v *Verifier) Verify(ctx context.Context, token string) (service.PodRef, error) {
	if len(token) > longest {
		return service.PodRef{}, fmt.Errorf("%w: it is longer than %d bytes", ErrRefused, longest)
	}
	parsed, err := jwt.ParseSigned(token, algorithms())
	if err != nil || len(parsed.Headers) != 1 {
		return service.PodRef{}, fmt.Errorf("%w: it is no signed token", ErrRefused)
	}
	issuer, key, err := v.key(ctx, parsed.Headers[0].KeyID)
	if err != nil {
		return service.PodRef{}, err
	}
	var c claims
	if err := parsed.Claims(key, &c); err != nil {
		return service.PodRef{}, fmt.Errorf("%w: its signature is not the cluster's", ErrRefused)
	}
	return c.pod(issuer, v.node, time.Now())
}

// algorithms are those that Kubernetes signs with. A token cannot choose
// another, such as none.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}
}

// pod checks what a token claims that has the cluster's signature.
func (c claims) pod(issuer, node string, now time.Time) (service.PodRef, error) {
	refuse := func(format string, args ...any) (service.PodRef, error) {
		return service.PodRef{}, fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
	}
	if c.Expiry == nil {
		return refuse("it never expires") // the library takes that for valid
	}
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: issuer, AnyAudience: jwt.Audience{Audience}, Time: now}, leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return refuse("its issuer is %q, and not %q", c.Issuer, issuer)
	case errors.Is(err, jwt.ErrInvalidAudience):
		return refuse("it is for %q, and not for %q", []string(c.Audience), Audience)
	case errors.Is(err, jwt.ErrExpired):
		return refuse("it has expired")
	case err != nil:
		return refuse("it is not valid yet: do the clocks of the node and of the API server agree?")
	}
	k := c.Kubernetes
	switch {
	case k.Namespace == "" || k.Pod.Name == "" || k.Pod.UID == "":
		return refuse("it is not bound to a pod")
	case k.Node.Name != node:
		return refuse("it is of a pod of node %q, and this is the agent of %q", k.Node.Name, node)
	}
	return service.PodRef{Namespace: k.Namespace, Name: k.Pod.Name, UID: k.Pod.UID}, nil
}

// parseKeys reads a key set. Keys of kinds that are not known here are left
// out, as RFC 7517 section 5 asks; the library would refuse the whole set. A
// set without a usable key is an error.
func parseKeys(data []byte) (map[string]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	keys := map[string]jose.JSONWebKey{}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		err := key.UnmarshalJSON(raw)
		if err == nil && key.IsPublic() && key.KeyID != "" && (key.Use == "" || key.Use == "sig") {
			keys[key.KeyID] = key
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("read the key set: none of its %d keys is usable", len(set.Keys))
	}
	return keys, nil
}
