package agent

import (
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

func TestOptions(t *testing.T) {
	good := Default()
	good.ClusterID, good.NodeName = "east-1", "n1"
	if err := good.Validate(); err != nil {
		t.Fatalf("good options: %v", err)
	}
	for flag, spoil := range map[string]func(*Options){
		"--registry":                 func(o *Options) { o.Registry = "etcd" },
		"--node-address":             func(o *Options) { o.Registry = RegistryCatalog },
		"--consul-auth-method":       func(o *Options) { o.ConsulTokenFile, o.ConsulAuthMethod = "x", "k8s" },
		"--consul-bearer-token-file": func(o *Options) { o.ConsulAuthMethod, o.ConsulBearerTokenFile = "k8s", "" },
		"--cluster-id":               func(o *Options) { o.ClusterID = "" },
		"--cluster-id \"a b":         func(o *Options) { o.ClusterID = "a b" },
		"--node-name":                func(o *Options) { o.NodeName = "" },
		"--consul-address":           func(o *Options) { o.ConsulAddress = "" },
		"--consul-cert-file":         func(o *Options) { o.ConsulCertFile = "x" },
		"--listen":                   func(o *Options) { o.Listen = "9980" },
		"--check-ttl":                func(o *Options) { o.CheckTTL = time.Second },
		"--resync":                   func(o *Options) { o.Resync = 0 },
		"--log-format":               func(o *Options) { o.LogFormat = "xml" },
		"--pod-source":               func(o *Options) { o.PodSource = "x" },
		"--pods-api-socket":          func(o *Options) { o.PodsAPISocket = "x" },
		"--kubelet-address":          func(o *Options) { o.PodSource, o.KubeletAddress = "kubelet", "" },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v does not name it", flag, err)
		}
	}
}

// A condition is written once it has lasted, at once if it is true, and not
// again before the watch has had time to show it.
func TestShown(t *testing.T) {
	const kind = service.GateReachable
	start := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	waiting := service.Condition{Status: service.ConditionFalse, Reason: "WaitingForServers"}
	other := service.Condition{Status: service.ConditionFalse, Reason: "NotPassingAtServers"}
	open := service.Condition{Status: service.ConditionTrue, Reason: "Reachable"}
	blank := service.Pod{}
	showing := func(c service.Condition) service.Pod {
		return service.Pod{Conditions: map[string]service.Condition{kind: c}}
	}

	s := &shown{}
	expect := func(what string, pod service.Pod, want service.Condition, now time.Time, due bool) {
		t.Helper()
		if got := s.due(pod, kind, want, now); got != due {
			t.Errorf("%s: due is %v", what, got)
		}
	}
	expect("a reason to wait, just now", blank, waiting, at(0), false)
	if !s.next.Equal(at(settle)) {
		t.Errorf("next look at %s", s.next)
	}
	expect("another reason does not begin anew", blank, other, at(settle/2), false)
	expect("it has lasted", blank, waiting, at(settle), true)
	s.written(blank, kind, waiting, at(settle))
	expect("not visible yet", blank, waiting, at(settle+time.Second), false)
	expect("opening does not wait for that", blank, open, at(settle+time.Second), true)
	expect("not visible for too long", blank, waiting, at(settle+visible), true)
	expect("visible", showing(waiting), waiting, at(settle+visible), false)
	if !s.next.IsZero() {
		t.Errorf("nothing is left to do, but there is a next look at %s", s.next)
	}

	if !s.failed(at(0)) || s.failed(at(0)) {
		t.Error("want only the first failure in a row to be news")
	}
	expect("just failed", showing(waiting), open, at(time.Millisecond), false)
	expect("some time after it failed", showing(waiting), open, at(time.Minute), true)
}

// Only what has been as it is since before the servers were asked can differ
// from what they say.
func TestDiffering(t *testing.T) {
	is := func(health service.Health, changes int) standing { return standing{health: health, changes: changes} }
	for name, c := range map[string]struct {
		before, after standing
		servers       service.Health
		want          bool
	}{
		"the same":                      {is(service.Passing, 2), is(service.Passing, 2), service.Passing, false},
		"not there":                     {is(service.Passing, 2), is(service.Passing, 2), "", true},
		"a critical that did not reach": {is(service.Critical, 4), is(service.Critical, 4), service.Passing, true},
		"being written":                 {is(service.Passing, 3), is(service.Passing, 3), service.Critical, false},
		"begun meanwhile":               {is(service.Passing, 2), is(service.Passing, 3), service.Critical, false},
		"there and back meanwhile":      {is(service.Passing, 2), is(service.Passing, 6), service.Critical, false},
		"left meanwhile":                {is(service.Passing, 2), standing{}, "", false},
	} {
		servers := map[string]service.Health{"another": service.Passing}
		if c.servers != "" {
			servers["a"] = c.servers
		}
		got := differing(map[string]standing{"a": c.before}, map[string]standing{"a": c.after}, servers)
		if (len(got) == 1) != c.want {
			t.Errorf("%s: differing %v, want %v", name, got, c.want)
		}
	}
}

func TestProblemsFitAnEvent(t *testing.T) {
	var errs []annotation.Error
	for range 100 {
		errs = append(errs, annotation.Error{Key: "fairway.dev/service-port", Problem: "is not a port"})
	}
	if got := problems(errs); len(got) > 1024 || !strings.HasSuffix(got, "; and more") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	if got := problems(errs[:1]); got != errs[0].String() {
		t.Errorf("one problem reads %q", got)
	}
}
