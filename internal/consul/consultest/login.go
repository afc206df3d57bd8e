package consultest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
)

// Issuer makes bearer tokens that an auth method takes.
type Issuer struct {
	// Method is the auth method's name.
	Method string

	t   testing.TB
	key *ecdsa.PrivateKey
}

// AuthMethod makes an auth method whose tokens have the rules. It checks bearers
// offline (type jwt); to Consul's clients it is one like that of Kubernetes.
func (c *Cluster) AuthMethod(rules string) *Issuer {
	t := c.Server.t
	t.Helper()
	const name = "fairway"
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	acl := c.Management().ACL()
	if _, _, err := acl.AuthMethodCreate(&api.ACLAuthMethod{
		Name: name, Type: "jwt", MaxTokenTTL: time.Hour,
		Config: map[string]any{
			"JWTValidationPubKeys": []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))},
			"JWTSupportedAlgs":     []string{"ES256"},
			"BoundIssuer":          name,
		},
	}, nil); err != nil {
		t.Fatalf("make auth method: %v", err)
	}
	role, _, err := acl.RoleCreate(&api.ACLRole{Name: name, Policies: []*api.ACLLink{c.policy(rules)}}, nil)
	if err != nil {
		t.Fatalf("make role: %v", err)
	}
	rule := &api.ACLBindingRule{AuthMethod: name, BindType: api.BindingRuleBindTypeRole, BindName: role.Name}
	if _, _, err := acl.BindingRuleCreate(rule, nil); err != nil {
		t.Fatalf("make binding rule: %v", err)
	}
	return &Issuer{Method: name, t: t, key: key}
}

// Bearer is a signed token that is good for the time given (RFC 7519).
func (i *Issuer) Bearer(life time.Duration) string {
	i.t.Helper()
	part := func(claims map[string]any) string {
		data, err := json.Marshal(claims)
		if err != nil {
			i.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(data)
	}
	now := time.Now()
	signed := part(map[string]any{"alg": "ES256", "typ": "JWT"}) + "." +
		part(map[string]any{"iss": i.Method, "sub": "agent", "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(life).Unix()})
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		i.t.Fatal(err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// LoginClient is Fairway's own client of the agent, which logs in with the
// bearer in a file.
func (a *Agent) LoginClient(i *Issuer, bearerFile string) *consul.Client {
	a.t.Helper()
	client, err := consul.New(consul.Config{
		Address: a.Address, AuthMethod: i.Method, BearerTokenFile: bearerFile, Timeout: 20 * time.Second,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return client
}
