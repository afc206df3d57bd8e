package process

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/nodeview"
)

// Only the agent of that very node speaks for it; that it is not well is no
// matter.
func TestAgents(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cluster, node string
		code          int
		want          bool
	}{
		"the agent":            {"east", "n1", http.StatusOK, true},
		"the agent, not well":  {"east", "n1", http.StatusServiceUnavailable, true},
		"another node's":       {"east", "n2", http.StatusOK, false},
		"another cluster's":    {"west", "n1", http.StatusOK, false},
		"something else":       {"", "", http.StatusOK, false},
		"what leads elsewhere": {"", "", http.StatusFound, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/healthz" {
					t.Errorf("asked for %s", r.URL)
				}
				w.Header().Set(nodeview.HeaderCluster, tt.cluster)
				w.Header().Set(nodeview.HeaderNode, tt.node)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.code)
			}))
			defer server.Close()
			_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "http://"), ":")
			n, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			p := NewAgents(n)
			if got := p.Answer(t.Context(), "east", "n1", netip.MustParseAddr("127.0.0.1")); got != tt.want {
				t.Errorf("answers: %v", got)
			}
			server.Close()
			if p.Answer(t.Context(), "east", "n1", netip.MustParseAddr("127.0.0.1")) {
				t.Error("answers although nobody is there")
			}
		})
	}
}
