package nodelease

import "time"

// Kubelets are the signs of life of all kubelets, as one observer sees them. The
// zero value has seen none.
//
// It says of itself whether it sees anything at all: among living kubelets one
// renews its Lease every moment. When nothing was heard of any for as long as two
// renewals take, it is the API server that is away, or the
// observer, and when something is heard again, all have been heard: they get as
// long to renew as if they just had.
type Kubelets struct {
	news   time.Time // when anything was last heard
	leases map[string]sign
}

// sign is the last one of a kubelet.
type sign struct {
	Kubelet
	renewal string
}

// Renewed takes in a kubelet's Lease as it was read at now. renewal is what
// changes with each renewal; a Lease that was read before is no sign of life.
func (k *Kubelets) Renewed(node, renewal string, good time.Duration, now time.Time) {
	if good <= 0 {
		good = promise
	}
	before, known := k.leases[node]
	if known && before.renewal == renewal {
		return
	}
	if k.leases == nil {
		k.leases = map[string]sign{}
	}
	if !k.Observed(now) {
		for name, other := range k.leases {
			other.Heard = now
			k.leases[name] = other
		}
	}
	k.leases[node] = sign{Kubelet{Heard: now, Promise: good}, renewal}
	k.news = now
}

// LateSince is when a kubelet of which nothing more is heard begins to be late.
func (k Kubelet) LateSince() time.Time { return k.Heard.Add(k.Promise * 5 / 8) }

// missedOne is when a kubelet of which nothing more is heard has missed a renewal.
func (k Kubelet) missedOne() time.Time { return k.Heard.Add(k.Promise * 3 / 8) }

// Retain forgets the kubelets that keep does not name.
func (k *Kubelets) Retain(keep func(node string) bool) {
	for node := range k.leases {
		if !keep(node) {
			delete(k.leases, node)
		}
	}
}

// Of is the last sign of life of a kubelet, zero if there was none.
func (k *Kubelets) Of(node string) Kubelet { return k.leases[node].Kubelet }

// Observed tells whether kubelets are being heard of, so that the silence of one
// says something of it.
func (k *Kubelets) Observed(now time.Time) bool {
	longest := time.Duration(0)
	for _, lease := range k.leases {
		longest = max(longest, lease.Promise)
	}
	return !k.news.IsZero() && now.Sub(k.news) <= longest/2
}

// News is when anything was last heard of any kubelet, zero if never.
func (k *Kubelets) News() time.Time { return k.news }
