package agentapi

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
)

// What answers in the agent's place gives entries that were asked for, or none
// and an error; and what could not be read changes nothing (I1).
func FuzzTake(f *testing.F) {
	f.Add(`{"a":{"ID":"a","Service":"web","Port":80,"Address":"198.18.64.7","Meta":{"fairway-cluster":"east"}}}`,
		`{"a":{"CheckID":"a","ServiceID":"a","Type":"ttl","Status":"passing","Notes":"1m"}}`)
	f.Add(`{"a":null}`, `{"a":null}`)
	f.Add(`{"a":{"ID":"b"}}`, `{}`)
	f.Add(`null`, `{}`)
	client, err := consul.New(consul.Config{Address: "http://127.0.0.1:1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, servicesText, checksText string) {
		var services map[string]*api.AgentService
		var checks map[string]*api.AgentCheck
		if json.Unmarshal([]byte(servicesText), &services) != nil || json.Unmarshal([]byte(checksText), &checks) != nil {
			return // the API client says so
		}
		r, err := New(Options{Client: client, Identity: consul.NewIdentity(client)})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := r.take(services, checks)
		if err != nil {
			if !errors.Is(err, consul.ErrUnusable) || entries != nil || len(r.held) > 0 {
				t.Errorf("%v, %d entries, %d kept", err, len(entries), len(r.held))
			}
			return
		}
		if len(entries) != len(services) || len(r.held) != len(services) {
			t.Errorf("%d entries of %d services", len(entries), len(services))
		}
		for _, e := range entries {
			check := checks[e.Instance.ID]
			if e.HasCheck != (check != nil && check.ServiceID == e.Instance.ID && check.Type == typeTTL) {
				t.Errorf("%s: has a check: %v; the agent has %+v", e.Instance.ID, e.HasCheck, check)
			}
		}
	})
}
