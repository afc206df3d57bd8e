package controller

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/consultest"
)

// sizes are numbers of Services, with five endpoints each.
var sizes = []int{1000, 5000}

func crowded(n int) *fakeKubernetes {
	kube := newFakeKubernetes()
	for i := range n {
		kube.set(fmt.Sprintf("s%d", i), 5)
	}
	return kube
}

// full waits until all is registered.
func (r *replica) full(n int) {
	consultest.Eventually(r.t, "all is registered", func() error {
		if observed := r.metric("fairway_export_instances", "state=observed"); observed < float64(5*n) || r.metric("fairway_export_instances", "state=due") > 0 {
			return fmt.Errorf("%v are", observed)
		}
		return nil
	})
}

// How long it takes until an empty Consul holds everything, and what the process has
// then.
func BenchmarkExportFromNothing(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				c := consultest.Start(b, false)
				east, kube := publisher(c, "east"), crowded(n)
				b.StartTimer()
				r := east.startEvery(b, kube, DefaultExport().ExportResync).leads()
				r.full(n)
				b.StopTimer()
				b.ReportMetric(heap(), "MB-heap")
				b.ReportMetric(r.metric("fairway_export_pass_seconds"), "passes")
				r.end()
				b.StartTimer()
			}
		})
	}
}

// How long it takes until a change of one endpoint can be read at the servers, among
// many Services, and what the process needs at rest.
func BenchmarkExportOfOneChange(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := consultest.Start(b, false)
			r := publisher(c, "east").startEvery(b, crowded(n), DefaultExport().ExportResync).leads()
			r.full(n)
			var took []time.Duration
			ready := true
			for b.Loop() {
				name := fmt.Sprintf("s%d", len(took)%n)
				ready = !ready
				slice := sliceOf(name, "a", 0, 5)
				slice.Endpoints[0].Ready = &ready
				want := 5
				if !ready {
					want = 4
				}
				if ready {
					name = fmt.Sprintf("s%d", (len(took)-1)%n)
					slice = sliceOf(name, "a", 0, 5)
				}
				start := time.Now()
				r.kube.put(slice)
				for index := uint64(0); ; {
					entries, meta, err := c.Management().Health().Service(name, "", true, &api.QueryOptions{RequireConsistent: true, WaitIndex: index})
					if err != nil {
						b.Fatal(err)
					}
					if len(entries) == want {
						break
					}
					index = meta.LastIndex
				}
				took = append(took, time.Since(start))
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}

// What the process needs at rest, with the interval that it has by default.
func BenchmarkExportAtRest(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := consultest.Start(b, false)
			r := publisher(c, "east").startEvery(b, crowded(n), DefaultExport().ExportResync).leads()
			r.full(n)
			before, start := cpu(), time.Now()
			for b.Loop() {
				<-time.After(DefaultExport().ExportResync)
			}
			b.ReportMetric(100*(cpu()-before).Seconds()/time.Since(start).Seconds(), "%-of-a-core")
			b.ReportMetric(heap(), "MB-heap")
		})
	}
}

// heap is what is in use, in megabytes.
func heap() float64 {
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return float64(memory.HeapAlloc) / 1e6
}

// cpu is what this process has used.
func cpu() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
