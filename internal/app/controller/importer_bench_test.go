package controller

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/discovery"
)

// BenchmarkConsulChange measures how long it takes from when Consul has taken a
// change of an instance's health until the write of its slice begins, with so many
// services watched in a real Consul.
func BenchmarkConsulChange(b *testing.B) {
	for _, services := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			c := consultest.Start(b, false)
			register := func(n int, status string) {
				_, err := c.Management().Catalog().Register(&api.CatalogRegistration{
					Node: "vm", Address: "198.18.0.1", Service: &api.AgentService{ID: fmt.Sprint(n), Service: fmt.Sprint("s", n), Port: 80},
					Check: &api.AgentCheck{CheckID: fmt.Sprint(n), ServiceID: fmt.Sprint(n), Status: status},
				}, nil)
				if err != nil {
					b.Fatal(err)
				}
			}
			var names []string
			for n := range services {
				names = append(names, fmt.Sprint("s", n))
				register(n, api.HealthPassing)
			}
			client, _ := c.Server.FairwayClient(c.ManagementToken())
			source, err := discovery.New(client, 100)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			go func() { _ = source.Run(ctx) }()
			s := newShop(names...)
			e := &eye{s, make(chan struct{}, 1)}
			leader, _ := e.control(b, source)
			leader.begin(ctx)
			wrote := func(n int) {
				consultest.Eventually(b, "it is written", func() error {
					s.mu.Lock()
					defer s.mu.Unlock()
					if len(s.did) < n {
						return fmt.Errorf("%d writes", len(s.did))
					}
					s.did = nil
					return nil
				})
			}
			wrote(2 * services)
			var took []time.Duration
			for round := range b.N {
				status := []string{api.HealthWarning, api.HealthPassing}[round%2]
				register(0, status)
				start := time.Now()
				wrote(1)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms-p99")
		})
	}
}
