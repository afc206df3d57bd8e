package timeline

import (
	"context"
	"errors"

	"github.com/hashicorp/consul/api"
)

// Leader returns the client whose server leads the others.
//
// What is timed is timed there: a follower answers blocking queries from its
// own copy, and learns that an entry is committed only with the leader's next
// message, 50 to 100 ms later in a quiet cluster (CommitTimeout in
// hashicorp/raft).
func Leader(ctx context.Context, servers []*api.Client) (*api.Client, error) {
	errs := []error{errors.New("no Consul server leads")}
	for _, server := range servers {
		var self struct {
			Stats struct {
				Consul struct {
					Leader string `json:"leader"`
				} `json:"consul"`
			}
		}
		_, err := server.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx))
		if err != nil {
			errs = append(errs, err)
		} else if self.Stats.Consul.Leader == "true" {
			return server, nil
		}
	}
	return nil, errors.Join(errs...)
}
