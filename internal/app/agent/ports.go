package agent

import (
	"context"

	"fairway.dev/fairway/internal/consul/health"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// podSource is where the node's pods come from.
type podSource interface {
	// Run feeds the source until ctx ends.
	Run(ctx context.Context) error
	// Snapshot returns the pods, and whether they are a complete picture.
	Snapshot() (pods []service.Pod, synced bool)
	// Subscribe returns a channel that gets a value after a change.
	Subscribe() <-chan struct{}
	// Gone returns, by UID, what proves that pods no longer exist. It may
	// forget those that are not in keep.
	Gone(keep map[string]bool) map[string]string
	// Running returns, by UID, the pods that the node's kubelet runs and calls
	// neither ended nor unready; nil if it does not say.
	Running() map[string]bool
	// Confirm asks for the pod as it is now. If it is none any more, found is nil,
	// why is the proof, and Gone has it from now on; else Gone does not have what
	// said so before. An error means that it could not be found out.
	Confirm(ctx context.Context, pod service.PodRef) (found *service.Pod, why string, err error)
	// Absent looks for proof that this node has no pod of that name, whatever its
	// UID. An error means that it could not be found out.
	Absent(ctx context.Context, name service.PodRef) (absent bool, why string, err error)
}

// registry holds the node's entries.
type registry interface {
	// Observe returns the entries. An error means that they are unknown, never
	// that there are none.
	Observe(ctx context.Context) ([]registration.Entry, error)
	// Apply carries out one op. It is called at the same time for different
	// entries.
	Apply(ctx context.Context, op registration.Op) error
	// Renew restarts the dead-man of the entries and changes nothing else.
	Renew(ctx context.Context, entries []registration.Entry) error
	// Push makes the servers hold an entry as the registry does.
	Push(ctx context.Context, entry registration.Entry) error
	// MostWrites bounds the calls of Apply and Renew at the same time.
	MostWrites() int
	// MostBackground bounds those among them that no client waits for. Others
	// may have to wait for them: what a pod is about to need is not to be far
	// behind what it no longer needs.
	MostBackground() int
}

// watcher follows what the servers hold of the node.
type watcher interface {
	// Next returns what they hold as soon as it differs from what it was at the
	// index; index 0 is answered at once. An error means that it is not known.
	Next(ctx context.Context, index uint64) (health.Held, uint64, error)
}

// prover asks the servers what clients get.
type prover interface {
	Prove(ctx context.Context, instances []service.Instance) map[string]gate.Proof
}

// katalogEntries are katalog-sync's entries in the node's Consul agent.
type katalogEntries interface {
	// Observe returns them. An error means that they are unknown, never that
	// there are none.
	Observe(ctx context.Context) ([]succession.Entry, error)
	// Remove removes one that nobody renews, or whose pod is over. It returns
	// katalogsync.ErrRenewed if somebody renews that of a pod that is not.
	Remove(ctx context.Context, id string, over bool) error
}

// lookup asks the servers for all entries of services on the node.
type lookup interface {
	Lookup(ctx context.Context, services []string) succession.Servers
}

// podWriter shows users what was found, on their pods.
type podWriter interface {
	SetCondition(ctx context.Context, pod service.Pod, kind string, want service.Condition) error
	Note(pod service.PodRef, reason, message string)
	Warn(pod service.PodRef, reason, message string)
}

// verifier tells which pod of the node a token speaks for.
type verifier interface {
	// Run keeps the keys up to date until ctx ends.
	Run(ctx context.Context) error
	// Verify returns tokens.ErrNoKeys or tokens.ErrRefused.
	Verify(ctx context.Context, token string) (service.PodRef, error)
}
