package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"fairway.dev/fairway/lab/timeline"
)

// A pod has come to a stage when it has in all of its services.
func TestWitnessAwaitsAllServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{reached: map[arrival]int{}, waiting: map[arrival]chan struct{}{}}
		passing := arrival{"uid", timeline.Passing}
		done := make(chan error, 1)
		go func() { done <- w.await(t.Context(), timeline.Passing, "uid") }()
		w.note(passing)
		w.note(arrival{"other", timeline.Passing})
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("passing after one of %d services: %v", servicesPerPod, err)
		default:
		}
		w.note(passing)
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.note(passing) // once more after a flap
		if err := w.await(t.Context(), timeline.Passing, "uid"); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.await(ctx, timeline.Out, "uid"); err == nil {
			t.Error("out, and nobody said so")
		}
	})
}

func TestLater(t *testing.T) {
	a, b := time.Unix(1, 0), time.Unix(2, 0)
	for _, c := range []struct{ a, b, want time.Time }{{a, b, b}, {b, a, b}, {a, time.Time{}, time.Time{}}, {time.Time{}, b, time.Time{}}} {
		if got := later(c.a, c.b); !got.Equal(c.want) {
			t.Errorf("later(%v, %v) = %v", c.a, c.b, got)
		}
	}
}

// Nothing that clients were not given for a moment is left out, whyever that was.
func TestLost(t *testing.T) {
	at := func(stages ...timeline.Stage) (p timeline.Pod) {
		for _, stage := range stages {
			p.At[stage] = time.Unix(int64(stage)+1, 0)
		}
		return p
	}
	stays, leaves, out := at(timeline.Passing), at(timeline.Passing, timeline.Terminating, timeline.Out), at(timeline.Passing, timeline.Out)
	flaps, nodeFlaps, nodeOut := stays, stays, out
	flaps.Flaps, nodeFlaps.NodeFlaps, nodeOut.NodeOut = 1, 1, true
	if n := lost([]timeline.Pod{stays, leaves}); n != 0 {
		t.Errorf("%d lost, though one stays and one is told to leave", n)
	}
	if n := lost([]timeline.Pod{stays, leaves, out, flaps, nodeFlaps, nodeOut}); n != 4 {
		t.Errorf("%d lost, want 4", n)
	}
}
