package health_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/service"
)

type named string

func (n named) NodeName(context.Context) (string, error) { return string(n), nil }

// Whatever answers in the servers' place: an instance is passing only if the
// answer lists just this one (I3), and absent only if it is a list (I1).
func FuzzProve(f *testing.F) {
	pod := service.PodRef{Namespace: "shop", Name: "web-1", UID: "u1"}
	in := service.Instance{ID: service.InstanceID("web", pod), Name: "web", Pod: pod, Address: netip.MustParseAddr("198.18.64.7"), Port: 80}
	const entry = `{"Node":{"Node":"n1"},"Service":{"ID":"fairway_web_shop_web-1_u1","Address":"198.18.64.7","Port":80,"Meta":{"fairway-pod-uid":"u1"}}}`
	f.Add([]byte(`[`+entry+`]`), []byte(`[]`), "12", "")
	f.Add([]byte(`[`+entry+`]`), []byte(`[]`), "0", "true")
	f.Add([]byte(`[]`), []byte(`[{"Node":{},"Service":{"ID":"fairway_web_shop_web-1_u1"},"Checks":[null]}]`), "12", "false")
	f.Add([]byte(`[null]`), []byte(`[]`), "x", "")
	f.Add([]byte(`[]`), []byte(`null`), "12", "")
	f.Add([]byte(`<html>`), []byte(`{}`), "12", "")
	var passing, all []byte
	var index, filtered string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := all
		if r.URL.Query().Has("passing") {
			body = passing
		}
		w.Header().Set("X-Consul-Index", index)
		w.Header().Set("X-Consul-Knownleader", "true")
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", filtered)
		_, _ = w.Write(body)
	}))
	f.Cleanup(server.Close)
	client, err := consul.New(consul.Config{Address: server.URL})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, answer, second []byte, at, acl string) {
		passing, all, index, filtered = answer, second, at, acl
		finding := health.NewProver(client, named("n1")).Prove(t.Context(), []service.Instance{in})[in.ID].Finding
		var list []*api.ServiceEntry
		isList := json.Unmarshal(answer, &list) == nil && list != nil
		listed := false
		for _, e := range list {
			listed = listed || e != nil && e.Service != nil && e.Service.ID == in.ID && e.Service.Address == "198.18.64.7" &&
				e.Service.Port == 80 && e.Service.Meta[service.MetaPodUID] == "u1"
		}
		if finding == gate.Passing && !listed || finding == gate.Absent && !isList || finding != gate.Unknown && acl == "true" {
			t.Errorf("%q is taken for %q", answer, finding)
		}
	})
}
