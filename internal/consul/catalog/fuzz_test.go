package catalog

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// What answers in the servers' place gives a picture of this virtual node, or an
// error; no op on it touches what is another cluster's (I5), writes without
// having seen what it changes, or breaks off when the results make no sense.
func FuzzPicture(f *testing.F) {
	const node = `{"Node":{"Node":"fairway-east-n1-46789a06","Meta":{"fairway-cluster":"east","fairway-node":"n1"}},"Services":{
		"a":{"ID":"a","Service":"web","ModifyIndex":7,"Meta":{"fairway-cluster":"east"}},
		"b":{"ID":"b","Service":"web","ModifyIndex":8,"Meta":{"fairway-cluster":"west"}}}}`
	const checks = `[{"Node":"fairway-east-n1-46789a06","CheckID":"a","ServiceID":"a","Status":"passing","ModifyIndex":9},
		{"Node":"fairway-east-n1-46789a06","CheckID":"fairway-lease","Status":"critical","ModifyIndex":3}]`
	f.Add(node, checks, `[{"Service":{"ID":"a","ModifyIndex":10}},{"Check":{"CheckID":"a","ServiceID":"a"}},null]`)
	f.Add(`null`, `[]`, `[]`)
	f.Add(`{"Node":null,"Services":{"a":null}}`, `[null]`, `null`)
	f.Fuzz(func(t *testing.T, nodeText, checksText, resultsText string) {
		var node *api.CatalogNode
		var checks api.HealthChecks
		var results api.TxnResults
		if json.Unmarshal([]byte(nodeText), &node) != nil || json.Unmarshal([]byte(checksText), &checks) != nil ||
			json.Unmarshal([]byte(resultsText), &results) != nil {
			return // the API client says so
		}
		p, err := newPicture(n1, node, checks)
		if err != nil {
			if !errors.Is(err, consul.ErrUnusable) && !errors.Is(err, consul.ErrConflict) || p.read {
				t.Errorf("%v, picture %+v", err, p)
			}
			return
		}
		sent := n1.nodeOps(p)
		for _, entry := range p.list(false) {
			for _, kind := range []registration.Kind{registration.Register, registration.SetHealth, registration.Deregister} {
				ops, err := n1.ops(p, registration.Op{Kind: kind, Instance: entry.Instance})
				if entry.Cluster != n1.cluster && !errors.Is(err, consul.ErrConflict) {
					t.Errorf("%s of %s, which is of cluster %q: %v", kind, entry.Instance.ID, entry.Cluster, err)
				}
				for _, op := range ops {
					if op.Service != nil && op.Service.Service.ModifyIndex == 0 {
						t.Errorf("%s of %s whatever it has become", kind, entry.Instance.ID)
					}
				}
				sent = append(sent, ops...)
			}
		}
		p.learn(sent, results)
		_ = p.index()
		for _, entry := range p.list(true) {
			if _, err := n1.ops(p, registration.Op{Kind: registration.SetHealth, Instance: service.Instance{ID: entry.Instance.ID}}); err != nil &&
				!errors.Is(err, consul.ErrConflict) {
				t.Errorf("%s after the results: %v", entry.Instance.ID, err)
			}
		}
	})
}
