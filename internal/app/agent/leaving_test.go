package agent

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// TestI1LeavingIsWrittenFirst: a pod that asks to leave is not called out of
// service before the registry has it so, also not while its registration is
// just being written.
func TestI1LeavingIsWrittenFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, slow := newKubeSide(), make(chan struct{})
		m := &memory{hang: map[string]chan struct{}{"web": slow}}
		board := startPublisher(t, pods, m)
		pods.set(runningPod("web", true))
		synctest.Wait() // its registration as passing hangs
		id := service.InstanceID("web", runningPod("web", true).Ref)
		in := func() string {
			s := board.standingOf("uid-web")
			if s == nil || len(s.Instances) != 1 {
				t.Fatalf("standing: %+v", s)
			}
			return s.InService[id]
		}

		if s := board.standingOf("uid-web"); s != nil {
			t.Errorf("nobody has asked: %+v", s)
		}
		board.leave("uid-web", time.Now())
		synctest.Wait()
		if got := in(); got != "being written" {
			t.Errorf("while it is registered: %q", got)
		}
		m.mu.Lock()
		m.hang = nil
		m.mu.Unlock()
		close(slow)
		synctest.Wait()
		if got := in(); got != "" {
			t.Errorf("when all is written: %q", got)
		}
		if diff := cmp.Diff([]string{"register web passing", "set-health web critical"}, withoutRenewals(m.writes())); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

// TestWhoStaysComesBack: a pod that asked to leave and was not deleted is in
// service again when its containers have been started anew, or in time.
func TestWhoStaysComesBack(t *testing.T) {
	for _, restarted := range []bool{true, false} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pods, m := newKubeSide(), &memory{}
				board := startPublisher(t, pods, m)
				pods.set(runningPod("web", true))
				synctest.Wait()
				board.leave("uid-web", time.Now())
				time.Sleep(time.Minute)
				synctest.Wait()
				want := []string{"register web passing", "set-health web critical"}
				if diff := cmp.Diff(want, withoutRenewals(m.writes())); diff != "" {
					t.Fatalf("a minute later (-want +got):\n%s", diff)
				}
				if restarted {
					pod := runningPod("web", true)
					pod.ContainersReadySince = time.Now()
					pods.set(pod)
				} else {
					time.Sleep(leaveFor)
				}
				synctest.Wait()
				if diff := cmp.Diff(append(want, "set-health web passing"), withoutRenewals(m.writes())); diff != "" {
					t.Errorf("in the end (-want +got):\n%s", diff)
				}
				if len(board.leavers()) != 0 {
					t.Errorf("still remembered: %v", board.leavers())
				}
			})
		})
	}
}

// A pod that is deleted as it should be stays out for good.
func TestWhoIsDeletedStaysOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods, m := newKubeSide(), &memory{}
		board := startPublisher(t, pods, m)
		pods.set(runningPod("web", true))
		synctest.Wait()
		board.leave("uid-web", time.Now())
		time.Sleep(time.Second)
		ending := runningPod("web", true)
		ending.Terminating = true
		pods.set(ending)
		time.Sleep(2 * leaveFor)
		synctest.Wait()
		if diff := cmp.Diff([]string{"register web passing", "set-health web critical"}, withoutRenewals(m.writes())); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func withoutRenewals(writes []string) []string {
	var rest []string
	for _, write := range writes {
		if write != "renew web" {
			rest = append(rest, write)
		}
	}
	return rest
}

// An entry whose registration is not done yet may be given to clients already:
// a pod that leaves is not out before it.
func TestI1RegistrationUnderWayIsInService(t *testing.T) {
	pod := service.PodRef{Namespace: "shop", Name: "web", UID: "uid"}
	in := service.Instance{ID: service.InstanceID("web", pod), Name: "web", Pod: pod, Health: service.Passing}
	p := &publisher{cluster: "c1", node: "n1", writes: newWrites(1)}
	p.writes.underway[in.ID] = registration.Op{Kind: registration.Register, Instance: in}
	s := p.leaving([]registration.Claim{{Pod: pod, Terminating: true}})[pod.UID]
	if len(s.Instances) != 1 || s.InService[in.ID] == "" {
		t.Errorf("the pod stands as %+v", s)
	}
}

// An entry that was seen critical may be passing after a write whose answer was
// not heard: a pod that leaves is not out before that was looked at.
func TestI1UnansweredWriteIsInService(t *testing.T) {
	pod := service.PodRef{Namespace: "shop", Name: "web", UID: "uid"}
	in := service.Instance{ID: service.InstanceID("web", pod), Name: "web", Pod: pod, Health: service.Critical}
	seen := registration.Entry{Instance: in, Cluster: "c1", Node: "n1", HasCheck: true}
	p := &publisher{cluster: "c1", node: "n1", writes: newWrites(1), view: map[string]registration.Entry{in.ID: seen}}
	in.Health = service.Passing
	p.writes.failures[in.ID] = &failure{op: registration.Op{Kind: registration.SetHealth, Instance: in}, reason: "no answer"}
	for _, doubt := range []bool{true, false} { // a look ends it
		p.doubt = doubt
		s := p.leaving([]registration.Claim{{Pod: pod, Terminating: true}})[pod.UID]
		if len(s.Instances) != 1 || (s.InService[in.ID] != "") != doubt {
			t.Errorf("in doubt %v: the pod stands as %+v", doubt, s)
		}
	}
}
