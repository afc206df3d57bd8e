package timeline

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// prompt is how long a server may take for a question that waits for no news;
	// one that is cut off never answers.
	prompt = time.Second
	// blocks is how long a question waits for news.
	blocks = 5 * time.Second
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
		leads, err := leads(ctx, server)
		if leads {
			return server, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func leads(ctx context.Context, server *api.Client) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, prompt)
	defer cancel()
	var self struct {
		Stats struct {
			Consul struct {
				Leader string `json:"leader"`
			} `json:"consul"`
		}
	}
	_, err := server.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx))
	return self.Stats.Consul.Leader == "true", err
}

// Blocking asks a server for what its own copy holds of a service after an
// index, as soon as it does; at index 0 at once, by a consistent read.
//
// Without near a server answers such a question, whatever its consistency, from
// a stream that it subscribes to at one of the servers, chosen at random and anew
// every few minutes (use_streaming_backend, on by default since Consul 1.10): a
// follower's, in two of three cases.
func Blocking(ctx context.Context, index uint64) *api.QueryOptions {
	q := api.QueryOptions{WaitIndex: index, WaitTime: blocks, RequireConsistent: index == 0, Near: "_agent"}
	return q.WithContext(ctx)
}
