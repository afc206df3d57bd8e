package gatesidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"fairway.dev/fairway/internal/rpc/node"
)

// The waits after a call that failed, the first and the longest. An agent that
// is being replaced is away for a moment.
const firstRetry, longestRetry = 250 * time.Millisecond, 2 * time.Second

// agent is the node's agent. The connection does not leave the node, so that
// it needs no encryption; the token is of use for this pod only.
type agent struct {
	conn      *grpc.ClientConn
	client    node.NodeClient
	tokenFile string
}

// dial makes an agent; it connects with the first call.
func dial(address, tokenFile string) (*agent, error) {
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("agent at %s: %w", address, err)
	}
	return &agent{conn: conn, client: node.NewNodeClient(conn), tokenFile: tokenFile}, nil
}

func (a *agent) close() { _ = a.conn.Close() }

// call is one of the agent's, begun.
type call func(ctx context.Context) (grpc.ServerStreamingClient[node.Progress], error)

func (a *agent) reachable(ctx context.Context) (grpc.ServerStreamingClient[node.Progress], error) {
	return a.client.Reachable(ctx, &node.ReachableRequest{})
}

func (a *agent) drain(ctx context.Context) (grpc.ServerStreamingClient[node.Progress], error) {
	return a.client.Drain(ctx, &node.DrainRequest{})
}

// until makes the call, again after each failure, until it is done or ctx
// ends. tell is called with each change of what is waited for.
func (a *agent) until(ctx context.Context, call call, tell func(outcome)) {
	var told outcome
	say := func(o outcome) {
		if o != told {
			told = o
			tell(o)
		}
	}
	retry := firstRetry
	for ctx.Err() == nil {
		err := a.once(ctx, call, func(p *node.Progress) {
			retry = firstRetry
			text := p.GetReason() + ": " + p.GetMessage()
			if !p.GetDone() {
				text += ", since " + p.GetSince().AsTime().UTC().Format(time.RFC3339)
			}
			say(outcome{done: p.GetDone(), text: text})
		})
		if told.done {
			return
		}
		// What was waited for at the end says more than that it was the end,
		// which may be heard of before our own clock says so.
		if ended := status.Code(err) == codes.DeadlineExceeded && told.text != ""; !ended && ctx.Err() == nil {
			say(outcome{text: problem(err)})
		}
		wait(ctx, retry)
		retry = min(2*retry, longestRetry)
	}
}

// once makes the call and follows it to its end.
func (a *agent) once(ctx context.Context, call call, tell func(*node.Progress)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	token, err := os.ReadFile(a.tokenFile) // the kubelet replaces it before it expires
	if err != nil {
		return fmt.Errorf("read the pod's token: %w", err)
	}
	stream, err := call(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strings.TrimSpace(string(token))))
	if err != nil {
		return err
	}
	for {
		progress, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		tell(progress)
	}
}

// problem is an error in words that stay the same as long as it does.
func problem(err error) string {
	s, ok := status.FromError(err)
	switch {
	case err == nil:
		return "the node's agent ended the call without an answer"
	case !ok:
		return err.Error()
	}
	return fmt.Sprintf("the node's agent: %s: %s", s.Code(), s.Message())
}
