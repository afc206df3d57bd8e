package succession_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

var (
	ref   = service.PodRef{Namespace: "shop", Name: "web-0", UID: "7"}
	name  = service.PodRef{Namespace: "shop", Name: "web-0"}
	here  = netip.MustParseAddr("198.18.64.7")
	there = netip.MustParseAddr("198.18.64.8")
)

const (
	ours   = "fairway_web_shop_web-0_7"
	theirs = "katalog-sync_web_shop_web-0"
)

// scene is one pod that declares web and is ready, katalog-sync's entry of it,
// and both at the servers.
func scene() succession.Input {
	instance := service.Instance{
		ID: ours, Name: "web", Pod: ref, Address: here, Port: 8080, Health: service.Passing, Notes: "containers are ready",
	}
	at := succession.Standing{Health: service.Passing, Address: here, Port: 8080}
	return succession.Input{
		Pods: []succession.Pod{{Claim: registration.Claim{
			Pod: ref, Health: service.Passing, Instances: []service.Instance{instance},
		}}},
		Theirs: []succession.Entry{{
			ID: theirs, Service: "web", Pod: name, Address: here, Port: 8080, Health: service.Passing,
		}},
		Servers: succession.Servers{Held: map[string]succession.Standing{ours: at, theirs: at}},
		Gone:    map[service.PodRef]string{},
		Yielded: map[string]bool{},
	}
}

type change func(*succession.Input)

func all(changes ...change) change {
	return func(in *succession.Input) {
		for _, c := range changes {
			c(in)
		}
	}
}

func expired(in *succession.Input) {
	in.Theirs[0].Expired, in.Theirs[0].Health = true, service.Critical
	in.Servers.Held[theirs] = succession.Standing{Health: service.Critical, Address: here, Port: 8080}
}

func unready(in *succession.Input) {
	in.Pods[0].Instances[0].Health, in.Pods[0].Instances[0].Notes = service.Critical, "containers are not ready"
}

func atServers(id string, standing succession.Standing) change {
	return func(in *succession.Input) { in.Servers.Held[id] = standing }
}

func notAtServers(id string) change {
	return func(in *succession.Input) { delete(in.Servers.Held, id) }
}

func serversAway(in *succession.Input) {
	in.Servers = succession.Servers{Unknown: "no usable answer from Consul"}
}

func noPods(in *succession.Input)     { in.Pods = nil }
func gone(in *succession.Input)       { in.Gone[name] = "no such pod" }
func otherPort(in *succession.Input)  { in.Theirs[0].Port = 9090 }
func undeclared(in *succession.Input) { in.Pods[0].Instances = nil }
func incomplete(in *succession.Input) { in.Pods[0].Incomplete = true }
func ended(in *succession.Input)      { in.Pods[0].Ended = true }

func TestTakeOver(t *testing.T) {
	tests := []struct {
		name   string
		change change
		state  succession.State
		reason string
	}{
		{"both in service", all(), succession.Covered, "the servers hold Fairway's entry as passing"},
		{"the servers do not know ours", notAtServers(ours), succession.Uncovered, "the servers do not hold Fairway's entry yet"},
		{"the servers are away", serversAway, succession.Uncovered,
			"the servers have not said whether they hold Fairway's entry: no usable answer from Consul"},
		{"ours is critical there", atServers(ours, succession.Standing{Health: service.Critical, Address: here, Port: 8080}), succession.Uncovered,
			"the servers hold Fairway's entry as critical, and it should be passing"},
		{"ours has another address there", atServers(ours, succession.Standing{Health: service.Passing, Address: there, Port: 8080}), succession.Uncovered,
			"the servers hold Fairway's entry with another address or port, for now"},
		{"they see the pod's health otherwise", unready, succession.Uncovered,
			"katalog-sync calls it passing, Fairway critical: containers are not ready"},
		{"they have another address", func(in *succession.Input) { in.Theirs[0].Address = there }, succession.Uncovered,
			"katalog-sync gives address 198.18.64.8, Fairway 198.18.64.7"},
		{"they have another port", otherPort, succession.Uncovered,
			"katalog-sync gives port 9090, Fairway 8080"},
		{"declared to them alone", undeclared, succession.Uncovered, `the pod does not declare service "web" to Fairway`},
		{"an unknown pod that they know", noPods, succession.Uncovered,
			"its pod is not on the list, and nothing proves that it is gone"},
		{"renewed by a TTL that outlives the pod", all(noPods, gone), succession.Superfluous, "the pod is gone: no such pod"},
		{"renewed after the pod has ended", ended, succession.Superfluous, "the pod has ended"},

		{"expired", expired, succession.Superfluous, "the servers hold Fairway's entry as passing"},
		{"expired, ours not there", all(expired, notAtServers(ours)), succession.Waiting, "the servers do not hold Fairway's entry yet"},
		{"expired, the servers are away", all(expired, serversAway), succession.Waiting,
			"the servers have not said whether they hold Fairway's entry: no usable answer from Consul"},
		{"expired, ours not yet passing there", all(expired, atServers(ours, succession.Standing{Health: service.Critical, Address: here, Port: 8080})),
			succession.Waiting, "the servers hold Fairway's entry as critical, and it should be passing"},
		{"expired, the pod is not ready and that is known", all(expired, unready,
			atServers(ours, succession.Standing{Health: service.Critical, Address: here, Port: 8080})),
			succession.Superfluous, "the servers hold Fairway's entry as critical"},
		{"expired, with another port", all(expired, otherPort), succession.Superfluous, "the servers hold Fairway's entry as passing"},
		{"expired, undeclared", all(expired, undeclared), succession.Superfluous, `the pod does not declare service "web"`},
		{"expired, not understood", all(expired, undeclared, incomplete), succession.Waiting,
			"the pod's annotations are not understood, or it has no address yet"},
		{"expired, the pod has ended", all(expired, ended), succession.Superfluous, "the pod has ended"},
		{"expired, the pod is unknown (I1)", all(expired, noPods), succession.Waiting,
			"its pod is not on the list, and nothing proves that it is gone"},
		{"expired, the pod is gone", all(expired, noPods, gone), succession.Superfluous, "the pod is gone: no such pod"},
		{"a proof does not count against the list", all(expired, gone, notAtServers(ours)), succession.Waiting,
			"the servers do not hold Fairway's entry yet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene()
			tt.change(&in)
			got := succession.TakeOver(in)
			if len(got) != 1 || got[0].ID != theirs || got[0].State != tt.state || got[0].Reason != tt.reason {
				t.Errorf("got %+v, want %s: %s", got, tt.state, tt.reason)
			}
		})
	}
}

// While one life of a pod ends and the next begins, both are on the list, and
// any of them that declares the service counts.
func TestTakeOverWithTwoLives(t *testing.T) {
	in := scene()
	expired(&in)
	former := in.Pods[0]
	former.Pod.UID, former.Ended, former.Instances = "6", true, nil
	in.Pods = append([]succession.Pod{former}, in.Pods...)
	if got := succession.TakeOver(in); got[0].State != succession.Superfluous {
		t.Errorf("got %+v", got)
	}
	notAtServers(ours)(&in)
	if got := succession.TakeOver(in); got[0].State != succession.Waiting {
		t.Errorf("without the new life at the servers: %+v", got)
	}
}

func TestHandBack(t *testing.T) {
	yielded := func(in *succession.Input) { in.Yielded[ours] = true }
	critical := func(in *succession.Input) { in.Theirs[0].Health = service.Critical }
	waits := func(in *succession.Input) { in.Pods[0].Waits = true }
	tests := []struct {
		name   string
		change change
		state  succession.State
		reason string
	}{
		{"both in service", all(), succession.Yielded, "katalog-sync's entry stands in its place"},
		{"they have none", func(in *succession.Input) { in.Theirs = nil }, succession.Kept,
			"katalog-sync has not registered it"},
		{"theirs expired", expired, succession.Kept, "nobody renews katalog-sync's entry"},
		{"theirs expired since", all(yielded, expired), succession.Kept, "nobody renews katalog-sync's entry"},
		{"theirs is critical", critical, succession.Kept, "katalog-sync's entry is critical, and should be passing"},
		{"theirs has become critical", all(yielded, critical), succession.Kept, "katalog-sync's entry is critical, and should be passing"},
		{"theirs has no check", func(in *succession.Input) { in.Theirs[0].Health = "" }, succession.Kept, "katalog-sync's entry has no check"},
		{"theirs has another port", otherPort, succession.Kept,
			"katalog-sync gives port 9090, Fairway 8080"},
		{"the servers do not know theirs", notAtServers(theirs), succession.Kept, "the servers do not hold katalog-sync's entry yet"},
		{"the servers hold theirs as critical", atServers(theirs, succession.Standing{Health: service.Critical, Address: here, Port: 8080}),
			succession.Kept, "the servers hold katalog-sync's entry as critical, and it should be passing"},
		{"the servers are away", serversAway, succession.Kept,
			"the servers have not said whether they hold katalog-sync's entry: no usable answer from Consul"},
		{"the servers go away later", all(yielded, serversAway), succession.Yielded, "katalog-sync's entry stands in its place"},
		{"the pod is not ready, and both know", all(unready, critical,
			atServers(theirs, succession.Standing{Health: service.Critical, Address: here, Port: 8080})),
			succession.Yielded, "katalog-sync's entry stands in its place"},
		{"the pod waits for Fairway's gate", waits, succession.Kept, "the pod waits for a gate that opens on Fairway's entry alone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := scene()
			tt.change(&in)
			got := succession.HandBack(in)
			if len(got) != 1 || got[0].ID != ours || got[0].State != tt.state || got[0].Reason != tt.reason {
				t.Errorf("got %+v, want %s: %s", got, tt.state, tt.reason)
			}
		})
	}
	in := scene()
	ended(&in)
	if got := succession.HandBack(in); len(got) != 0 {
		t.Errorf("of a pod that has ended: %+v", got)
	}
}

// drawScene is any combination of what can be seen.
func drawScene(t *rapid.T) succession.Input {
	in := scene()
	healths := rapid.SampledFrom([]service.Health{service.Passing, service.Warning, service.Critical})
	maybe := func(label string, c change) {
		if rapid.IntRange(0, 5).Draw(t, label) == 0 { // most of them rule the others out
			c(&in)
		}
	}
	in.Pods[0].Instances[0].Health = healths.Draw(t, "wanted")
	in.Theirs[0].Health = healths.Draw(t, "theirs")
	atServers(ours, succession.Standing{Health: healths.Draw(t, "ours at servers"), Address: here, Port: 8080})(&in)
	atServers(theirs, succession.Standing{Health: healths.Draw(t, "theirs at servers"), Address: here, Port: 8080})(&in)
	maybe("other port", otherPort)
	maybe("expired", expired)
	maybe("ours is not at the servers", notAtServers(ours))
	maybe("theirs is not at the servers", notAtServers(theirs))
	maybe("the servers are away", serversAway)
	maybe("proven gone", gone)
	maybe("incomplete", incomplete)
	maybe("waits", func(in *succession.Input) { in.Pods[0].Waits = true })
	maybe("ended", ended)
	maybe("undeclared", undeclared)
	maybe("not on the list", noPods)
	return in
}

// I1, I5: what katalog-sync renews of a pod that may be there is never removed, nor
// is anything for a mere absence: of a pod from the list, or of an answer.
func TestI1SuperfluousNeedsProof(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawScene(t)
		for _, v := range succession.TakeOver(in) {
			if v.State != succession.Superfluous {
				continue
			}
			held, ok := in.Servers.Held[ours]
			switch {
			case v.Over && (len(in.Pods) > 0 && !in.Pods[0].Ended || len(in.Pods) == 0 && in.Gone[name] == ""):
				t.Fatalf("the pod may be there, and yet %+v", v)
			case !in.Theirs[0].Expired && !v.Over:
				t.Fatalf("renewed, and yet %+v", v)
			case len(in.Pods) == 0 && in.Gone[name] == "":
				t.Fatalf("the pod may be there, and yet %+v", v)
			case len(in.Pods) > 0 && !in.Pods[0].Ended && len(in.Pods[0].Instances) > 0 && (!ok || held.Health != in.Pods[0].Instances[0].Health):
				t.Fatalf("the servers hold ours as %+v, and yet %+v", held, v)
			case len(in.Pods) > 0 && !in.Pods[0].Ended && len(in.Pods[0].Instances) == 0 && in.Pods[0].Incomplete:
				t.Fatalf("what the pod declares is not known, and yet %+v", v)
			}
		}
	})
}

// Whatever is handed back is given to clients by the other side, at least as
// much as it should be, and goes nowhere else.
func TestHandedBackIsStillServed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawScene(t)
		rank := map[service.Health]int{service.Passing: 2, service.Warning: 1}
		for _, v := range succession.HandBack(in) {
			if v.State != succession.Yielded {
				continue
			}
			wanted, entry, held := in.Pods[0].Instances[0], in.Theirs[0], in.Servers.Held[theirs]
			if entry.Expired || entry.Port != wanted.Port || rank[entry.Health] < rank[wanted.Health] || rank[held.Health] < rank[wanted.Health] ||
				in.Servers.Held == nil {
				t.Fatalf("%+v of %+v, theirs %+v, at the servers %+v", v, wanted, entry, held)
			}
		}
	})
}

// A verdict of which the servers have a say asks them; nothing else does.
func TestAsks(t *testing.T) {
	tests := []struct {
		name   string
		change change
		want   []bool // take over, hand back
	}{
		{"both there", all(), []bool{true, true}},
		{"expired", expired, []bool{true, false}},
		{"yielded before", func(in *succession.Input) { in.Yielded[ours] = true }, []bool{true, false}},
		{"not declared", undeclared, []bool{false}},
		{"not on the list", noPods, []bool{false}},
	}
	for _, tt := range tests {
		in := scene()
		tt.change(&in)
		var got []bool
		for _, v := range append(succession.TakeOver(in), succession.HandBack(in)...) {
			got = append(got, v.Asks)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
