package main

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestServicesMissed(t *testing.T) {
	kept := servicesRow{
		Services: promisedServices, ColdSync: 3000, ChangeToVisible: quantiles{P50: 30}, ImportChange: quantiles{P50: 100},
		atRest: atRest{RestCPUPercent: 0.5},
	}
	if missed := kept.missed(); len(missed) > 0 {
		t.Errorf("at the bounds: missed %q", missed)
	}
	broken := kept
	broken.ColdSync, broken.RestAPIWrites = 3000.5, 2
	want := []string{
		"1000 Services: writes to the API server at rest is 2, should be 0 or less",
		"1000 Services: cold sync, ms is 3000.5, should be 3000 or less",
	}
	if diff := cmp.Diff(want, broken.missed()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	broken.Services = 5000
	want = []string{"5000 Services: writes to the API server at rest is 2, should be 0 or less"}
	if diff := cmp.Diff(want, broken.missed()); diff != "" {
		t.Errorf("with another number of Services (-want +got):\n%s", diff)
	}
}

func TestFirstWith(t *testing.T) {
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	answers := []answer{{7, at(10)}, {12, at(20)}, {30, at(30)}}
	for index, want := range map[uint64]time.Time{1: at(10), 7: at(10), 8: at(20), 12: at(20), 13: at(30), 31: {}} {
		if got := firstWith(answers, index); !got.Equal(want) {
			t.Errorf("index %d was seen at %s, want %s", index, got, want)
		}
	}
}

func TestCountWrites(t *testing.T) {
	const metrics = `# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="",verb="GET",version="v1"} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="",verb="PATCH",version="v1"} 2
apiserver_request_total{code="409",component="apiserver",dry_run="",group="fairway.dev",resource="consulimports",scope="resource",subresource="status",verb="PUT",version="v1alpha1"} 1e+02
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 50
apiserver_request_terminations_total{code="500",resource="services",verb="PATCH"} 1
`
	if n, err := countWrites(metrics, written); n != 102 || err != nil {
		t.Errorf("%d writes, %v; want 102", n, err)
	}
	if _, err := countWrites("# nothing\n", written); err == nil {
		t.Error("an API server that counts nothing was taken for one that had no writes")
	}
}

// An endpoint that leaves though it has not changed is counted, once for each time
// that it was seen.
func TestImportWatch(t *testing.T) {
	w := &importWatch{seen: map[string]imported{}, changed: make(chan struct{})}
	for second, ready := range []int{3, 2, 1, 2, 3, 3} {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}}
		for i := range instancesPerService {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: new(i < ready)}})
		}
		w.see(slice, time.Unix(int64(second), 0))
	}
	at, err := w.await(t.Context(), "web", instancesPerService)
	if err != nil || at.Unix() != 4 {
		t.Errorf("all were ready at %d s, %v; want 4", at.Unix(), err)
	}
	if n := w.count(); n != 1 {
		t.Errorf("%d slices lacked what had not changed, want 1", n)
	}
	if n := w.count(); n != 0 {
		t.Errorf("%d were counted twice", n)
	}
}

// Changes come at a steady pace though each takes longer, enough of them, and all
// are undone at the end.
func TestPaced(t *testing.T) {
	for objects, want := range map[int]int{50: 300, 100: 400, mostChanged: 300} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			changed := map[int]bool{}
			underway, most := 0, 0
			began := time.Now()
			q, err := paced(t.Context(), objects, func(_ context.Context, i int, undo bool) (time.Duration, error) {
				mu.Lock()
				if changed[i] != undo {
					t.Errorf("object %d is done or undone twice", i)
				}
				changed[i] = !undo
				underway++
				most = max(most, underway)
				mu.Unlock()
				time.Sleep(3*changeEvery - time.Millisecond)
				mu.Lock()
				underway--
				mu.Unlock()
				return time.Millisecond, nil
			})
			if err != nil || q.N != want || most != 3 {
				t.Errorf("%d objects: %d changes, %d at the same time, %v; want %d and 3", objects, q.N, most, err, want)
			}
			for i, changed := range changed {
				if changed {
					t.Errorf("object %d is left as it was changed", i)
				}
			}
			if took, least := time.Since(began), time.Duration(want)*changeEvery; took < least || took > least+time.Duration(want/objects)*3*changeEvery {
				t.Errorf("%d objects: it took %s, want little more than %s", objects, took, least)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("lost")
		_, err := paced(t.Context(), 2, func(context.Context, int, bool) (time.Duration, error) { return 0, lost })
		if !errors.Is(err, lost) {
			t.Errorf("a change that failed: %v", err)
		}
	})
}
