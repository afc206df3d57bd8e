package export_test

import (
	"fmt"
	"net/netip"
	"testing"

	"fairway.dev/fairway/internal/export"
)

// crowd is a cluster of n Services with five pods each.
func crowd(n int) export.Cluster {
	c := export.Cluster{Nodes: nodes()}
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		c.Services = append(c.Services, web(func(svc *export.Service) { svc.Name, svc.UID = name, name+"-1" }))
		of := slice(name + "-a")
		of.Service = name
		for p := range 5 {
			of.Endpoints = append(of.Endpoints, pod(p+1, func(e *export.Endpoint) {
				e.Target.UID = fmt.Sprintf("%s-p%d", name, p)
				e.Addresses = []string{netip.AddrFrom4([4]byte{198, 18, byte(i >> 5), byte(i<<3 + p)}).String()}
			}))
		}
		c.Slices = append(c.Slices, of)
	}
	return c
}

// All Services are decided about when a process has just started.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := input(crowd(n), policy())
			in.Entries = settled(in.Cluster, in.Policy).entries()
			for b.Loop() {
				if plan := export.Decide(in); len(plan.Ops) > 0 {
					b.Fatal(ops(plan)[0])
				}
			}
		})
	}
}

// A change of one endpoint makes its Service alone be decided anew.
func BenchmarkLedger(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := input(crowd(n), policy())
			l := export.NewLedger(in.Policy)
			l.See(in.Cluster)
			for shard, entries := range settled(in.Cluster, in.Policy).entries() {
				l.Read(shard, entries)
			}
			l.Plan(in.Evidence)
			changed := []export.Object{in.Cluster.Services[7].Object()}
			in.Cluster.Slices[7].Endpoints[0].Ready = new(false)
			for b.Loop() {
				l.SeeChanges(in.Cluster, changed)
				if plan := l.Plan(in.Evidence); len(plan.Ops) != 1 {
					b.Fatal(ops(plan))
				}
			}
		})
	}
}

// When all is to be registered, each turn plans what is left of it.
func BenchmarkLedgerFromNothing(b *testing.B) {
	for _, n := range []int{1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			in := input(crowd(n), policy())
			l := export.NewLedger(in.Policy)
			l.See(in.Cluster)
			for shard := range export.Shards {
				l.Read(shard, nil)
			}
			ops := l.Plan(in.Evidence).Ops
			done := 0
			for b.Loop() {
				l.Wrote(ops[done%len(ops)])
				done++
				l.Plan(in.Evidence)
			}
		})
	}
}
