package consul_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
)

// A person's shell reaches Consul as the consul command does, and what is given
// as a flag wins.
func TestFromEnvironment(t *testing.T) {
	c := consultest.Start(t, false)
	token := c.Token(`node_prefix "" { policy = "read" }`)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		env map[string]string
		cfg consul.Config
	}{
		"environment":          {map[string]string{"CONSUL_HTTP_ADDR": c.Server.Address, "CONSUL_HTTP_TOKEN": token}, consul.Config{}},
		"token file":           {map[string]string{"CONSUL_HTTP_ADDR": c.Server.Address, "CONSUL_HTTP_TOKEN_FILE": file}, consul.Config{}},
		"flags":                {nil, consul.Config{Address: c.Server.Address, TokenFile: file, UserAgent: "test"}},
		"flags win":            {map[string]string{"CONSUL_HTTP_ADDR": "127.0.0.1:1", "CONSUL_HTTP_TOKEN": "other"}, consul.Config{Address: c.Server.Address, TokenFile: file}},
		"a flag wins the file": {map[string]string{"CONSUL_HTTP_ADDR": c.Server.Address, "CONSUL_HTTP_TOKEN_FILE": "/nowhere"}, consul.Config{TokenFile: file}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"} {
				t.Setenv(variable, try.env[variable])
			}
			client, err := consul.FromEnvironment(try.cfg)
			if err != nil {
				t.Fatal(err)
			}
			leader, servers, err := client.Leader(t.Context())
			if err != nil || leader == "" || servers != 1 {
				t.Errorf("leader %q of %d, %v", leader, servers, err)
			}
			self, _, err := client.ACL().TokenReadSelf(&api.QueryOptions{})
			if err != nil || self.SecretID != token {
				t.Errorf("the token is not the one that was given: %v", err)
			}
			apart, err := client.Apart(1)
			if err != nil {
				t.Fatal(err)
			}
			if self, _, err := apart.ACL().TokenReadSelf(&api.QueryOptions{}); err != nil || self.SecretID != token {
				t.Errorf("with connections apart: %v", err)
			}
		})
	}

	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	client, err := consul.FromEnvironment(consul.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Leader(t.Context()); err == nil {
		t.Error("a leader where nobody listens")
	}
	if _, err := consul.FromEnvironment(consul.Config{TokenFile: "/nowhere/token"}); err == nil {
		t.Error("a token file that is not there is no error")
	}
}
