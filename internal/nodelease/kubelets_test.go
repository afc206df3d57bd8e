package nodelease

import (
	"testing"
	"time"
)

func TestKubelets(t *testing.T) {
	t.Parallel()
	var k Kubelets
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	heard := func(node string, want int) {
		t.Helper()
		if got := k.Of(node).Heard; got != at(want) {
			t.Errorf("%s was heard at %s, want %s", node, got.Sub(now), at(want).Sub(now))
		}
	}
	if k.Observed(now) || !k.Of("n1").Heard.IsZero() {
		t.Error("what has seen nothing says something")
	}
	k.Renewed("n1", "a", 40*time.Second, at(0))
	k.Renewed("n2", "a", 0, at(2))
	k.Renewed("n1", "b", 40*time.Second, at(10))
	k.Renewed("n1", "b", 40*time.Second, at(14)) // seen again, in a list
	heard("n1", 10)
	heard("n2", 2)
	if k.Of("n2").Promise != 40*time.Second || k.News() != at(10) {
		t.Errorf("%+v, news at %s", k.Of("n2"), k.News())
	}
	if !k.Observed(at(30)) || k.Observed(at(31)) {
		t.Error("observed for two renewals")
	}

	// Nothing was heard of anybody for too long, and then of one.
	k.Renewed("n1", "c", 40*time.Second, at(100))
	heard("n1", 100)
	heard("n2", 100)
	k.Renewed("n1", "d", 40*time.Second, at(110))
	heard("n2", 100)

	k.Retain(func(node string) bool { return node == "n1" })
	if !k.Of("n2").Heard.IsZero() || k.Of("n1").Heard.IsZero() {
		t.Error("the wrong one was forgotten")
	}
}
