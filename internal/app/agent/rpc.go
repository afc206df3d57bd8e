package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"fairway.dev/fairway/internal/app/process"
	"fairway.dev/fairway/internal/rpc/katalogsync"
	"fairway.dev/fairway/internal/rpc/node"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/tokens"
)

// katalogWait bounds a call of katalog-sync's sidecar, which sets no deadline
// and asks again a second after an error.
const katalogWait = 15 * time.Second

// podServers opens the ports at which pods ask, and returns what serves them.
// The calls under way end with ctx, and are made again to the next process.
func (a *Agent) podServers(ctx context.Context, waits *waits) ([]process.Part, error) {
	waits.stopping = ctx.Done()
	var parts []process.Part
	if a.opts.GRPCListen != "" {
		serve, err := a.serveGRPC(ctx, "grpc", a.opts.GRPCListen, func(s *grpc.Server) {
			node.RegisterNodeServer(s, &nodeServer{waits: waits, tokens: a.outside.tokens})
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, serve, process.Part{Name: "tokens", Do: a.outside.tokens.Run})
	}
	if a.opts.KatalogRPCListen != "" {
		serve, err := a.serveGRPC(ctx, "katalog rpc", a.opts.KatalogRPCListen, func(s *grpc.Server) {
			katalogsync.RegisterKatalogSyncServer(s, &katalogServer{waits: waits})
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, serve)
	}
	return parts, nil
}

func (a *Agent) serveGRPC(ctx context.Context, name, address string, register func(*grpc.Server)) (process.Part, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return process.Part{}, fmt.Errorf("listen on %s: %w", address, err)
	}
	a.listening(name, listener.Addr())
	server := grpc.NewServer(
		grpc.WaitForHandlers(true),
		grpc.MaxRecvMsgSize(4<<10), // requests say next to nothing
		grpc.MaxConcurrentStreams(16),
		grpc.ConnectionTimeout(5*time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	)
	register(server)
	context.AfterFunc(ctx, server.Stop)
	return process.Part{Name: name, Do: func(context.Context) error { return server.Serve(listener) }}, nil
}

// nodeServer answers fairway-gate.
type nodeServer struct {
	node.UnimplementedNodeServer

	waits  *waits
	tokens verifier
}

// Reachable implements node.NodeServer.
func (s *nodeServer) Reachable(_ *node.ReachableRequest, stream grpc.ServerStreamingServer[node.Progress]) error {
	pod, err := s.caller(stream.Context())
	if err != nil {
		return err
	}
	return asStatus(s.waits.reachable(stream.Context(), pod, sender(stream)))
}

// Drain implements node.NodeServer.
func (s *nodeServer) Drain(_ *node.DrainRequest, stream grpc.ServerStreamingServer[node.Progress]) error {
	pod, err := s.caller(stream.Context())
	if err != nil {
		return err
	}
	return asStatus(s.waits.drain(stream.Context(), pod, sender(stream)))
}

// caller is the pod that speaks (I8).
func (s *nodeServer) caller(ctx context.Context) (service.PodRef, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	var token string
	if values := md.Get("authorization"); len(values) == 1 {
		token, _ = strings.CutPrefix(values[0], "Bearer ")
	}
	pod, err := s.tokens.Verify(ctx, token)
	switch {
	case errors.Is(err, tokens.ErrNoKeys):
		return pod, status.Error(codes.Unavailable, err.Error())
	case err != nil:
		s.waits.metrics.callsRefused.Inc()
		s.waits.log.Debug("a call was refused", "peer", peerAddress(ctx), "err", err)
		return pod, status.Error(codes.Unauthenticated, err.Error())
	}
	return pod, nil
}

// sender tells a caller what is waited for.
func sender(stream grpc.ServerStreamingServer[node.Progress]) func(progress) error {
	until := waitUntil(stream.Context())
	return func(p progress) error {
		return stream.Send(&node.Progress{
			Done: p.done, Reason: p.reason, Message: p.text,
			Since: timestamppb.New(p.since), Until: timestamppb.New(until),
		})
	}
}

// asStatus is how a wait ended, for a caller.
func asStatus(p progress, err error) error {
	said := p.reason + ": " + p.text
	switch {
	case err == nil && p.done:
		return nil
	case err == nil:
		return status.Error(codes.FailedPrecondition, said)
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "still waiting: "+said)
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Unavailable, "the agent stops, or the caller has gone: "+said)
	}
	return err // of sending, gRPC's own
}

// katalogServer answers katalog-sync's sidecar. It carries no token, so a
// caller speaks for the pod whose address it calls from.
type katalogServer struct {
	katalogsync.UnimplementedKatalogSyncServer

	waits *waits
}

// Register implements katalogsync.KatalogSyncServer.
func (s *katalogServer) Register(ctx context.Context, q *katalogsync.RegisterQuery) (*katalogsync.RegisterResult, error) {
	pod, err := s.caller(ctx, q.GetNamespace(), q.GetPodName())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, katalogWait)
	defer cancel()
	if err := asStatus(s.waits.reachable(ctx, pod, silent)); err != nil {
		return nil, err
	}
	return &katalogsync.RegisterResult{}, nil
}

// Deregister implements katalogsync.KatalogSyncServer.
func (s *katalogServer) Deregister(ctx context.Context, q *katalogsync.DeregisterQuery) (*katalogsync.DeregisterResult, error) {
	pod, err := s.caller(ctx, q.GetNamespace(), q.GetPodName())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, katalogWait)
	defer cancel()
	if err := asStatus(s.waits.drain(ctx, pod, silent)); err != nil {
		return nil, err
	}
	return &katalogsync.DeregisterResult{}, nil
}

func silent(progress) error { return nil }

// caller is the named pod, if the call comes from one of its addresses.
func (s *katalogServer) caller(ctx context.Context, namespace, name string) (service.PodRef, error) {
	from := peerAddress(ctx)
	pod, ok := s.waits.pod(func(pod service.Pod) bool { return pod.Ref.Namespace == namespace && pod.Ref.Name == name })
	switch {
	case !ok:
		return service.PodRef{}, status.Errorf(codes.Unavailable, "the node's agent does not know the pod %s/%s yet", namespace, name)
	case !from.IsValid() || !slices.Contains(pod.Addresses, from):
		s.waits.metrics.callsRefused.Inc()
		s.waits.log.Debug("a call was refused: it does not come from the pod that it names", "peer", from, "pod", pod.Ref.String())
		return service.PodRef{}, status.Errorf(codes.PermissionDenied, "%s is not an address of the pod %s", from, pod.Ref)
	}
	return pod.Ref, nil
}

// peerAddress is where a call comes from, not valid if that is no IP address.
func peerAddress(ctx context.Context) netip.Addr {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(from.Addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}
