package clusterlease

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/service"
)

var start = time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)

const (
	every        = 10 * time.Second
	deadAfter    = 5 * time.Minute
	answerWithin = 150 * time.Second
)

// cluster is one that is looked at, with a Consul that does what is decided.
type cluster struct {
	now    time.Time
	memory Memory
	index  uint64
	leases map[string]Lease
	writes int

	atPorts, inConsul bool // how it answers
}

func newCluster(nodes int) *cluster {
	c := &cluster{now: start, leases: map[string]Lease{}}
	for n := range nodes {
		c.write(Lease{Name: fmt.Sprintf("n%03d", n), Status: service.Passing})
	}
	return c
}

func (c *cluster) write(lease Lease) {
	c.index++
	c.writes++
	lease.Index = c.index
	c.leases[lease.Name] = lease
}

// look looks once, after time has passed in which the cluster did what it does.
func (c *cluster) look(passed time.Duration) Decision {
	c.now = c.now.Add(passed)
	for name, lease := range c.leases {
		if c.inConsul && lease.Says != "" {
			c.write(Lease{Name: name, Status: service.Passing})
		}
	}
	in := Input{Now: c.now, Every: every, DeadAfter: deadAfter, AnswerWithin: answerWithin, Answered: c.atPorts}
	for _, lease := range c.leases {
		in.Leases = append(in.Leases, lease)
	}
	d, memory := Decide(in, c.memory)
	c.memory = memory
	for _, name := range d.Ask {
		c.write(Lease{Name: name, Status: service.Passing, Says: Question + d.Says})
	}
	for _, name := range d.Expire {
		c.write(Lease{Name: name, Status: service.Critical, Says: Verdict + d.Says})
	}
	return d
}

// until looks until the cluster stands so, and returns how long that took.
func (c *cluster) until(t *testing.T, state State) time.Duration {
	t.Helper()
	began := c.now
	for range 1000 {
		if d := c.look(every); d.State == state {
			return c.now.Sub(began)
		}
	}
	t.Fatalf("it never is %s", state)
	return 0
}

// A cluster of which nothing is heard any more is expired, however large it is, and
// not before every lease was asked. When it is back it lives.
func TestDeadCluster(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{1, 3, 1000} {
		c := newCluster(nodes)
		c.atPorts, c.inConsul = true, true
		for range 100 {
			if d := c.look(every); d.State != Alive {
				t.Fatalf("it lives, and is %+v", d)
			}
		}
		if c.writes != nodes {
			t.Errorf("%d nodes: %d writes about a cluster that answers", nodes, c.writes-nodes)
		}
		c.atPorts, c.inConsul = false, false
		took := c.until(t, Dead)
		if took < deadAfter || took > deadAfter+4*time.Minute {
			t.Errorf("%d nodes: dead after %s", nodes, took)
		}
		if want := 3 * nodes; c.writes != want {
			t.Errorf("%d nodes: %d writes in all, want %d", nodes, c.writes, want)
		}
		if d := c.look(every); d.State != Expired {
			t.Errorf("then it is %+v", d)
		}
		c.inConsul = true
		if d := c.look(every); d.State != Alive {
			t.Errorf("it is back, and is %+v", d)
		}
		if d := c.look(every); len(d.Ask)+len(d.Expire) > 0 || d.State == Expired {
			t.Errorf("then %+v", d)
		}
	}
}

// A cluster behind a wall answers in Consul, which costs a question a minute.
func TestClusterBehindAWall(t *testing.T) {
	t.Parallel()
	c := newCluster(100)
	c.inConsul = true
	for range 6 * 60 {
		if d := c.look(every); d.State == Dead || d.State == Expired {
			t.Fatalf("it lives, and is %+v", d)
		}
	}
	if perHour := c.writes - 100; perHour > 2*60 {
		t.Errorf("%d writes in an hour", perHour)
	}
}

// Time in which Consul could not be read, or nobody looked, is not silence of the
// cluster (I1).
func TestI1BlindTimeDoesNotCount(t *testing.T) {
	t.Parallel()
	c := newCluster(3)
	for range 12 {
		c.look(every)
	}
	if d := c.look(time.Hour); d.State == Dead {
		t.Errorf("after an hour in which nobody looked: %+v", d)
	}
	began := c.now
	c.memory = c.memory.Blind()
	for range 1000 {
		if d := c.look(every); d.State == Dead {
			break
		}
	}
	if took := c.now.Sub(began); took < answerWithin {
		t.Errorf("dead %s after Consul could be read again: nothing had the time to answer", took)
	}
}

// Whatever happens, a cluster of which something was heard within the time is not
// called dead.
func TestI1NoLivingClusterIsCalledDead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newCluster(rapid.IntRange(1, 5).Draw(t, "nodes"))
		heard := c.now
		for range rapid.IntRange(1, 120).Draw(t, "looks") {
			c.atPorts = rapid.IntRange(0, 9).Draw(t, "at ports") == 0
			c.inConsul = rapid.IntRange(0, 9).Draw(t, "in Consul") == 0
			if rapid.IntRange(0, 19).Draw(t, "blind") == 0 {
				c.memory = c.memory.Blind()
			}
			standing := slices.ContainsFunc(slices.Collect(maps.Values(c.leases)), func(l Lease) bool { return l.Says != "" })
			d := c.look(time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds")) * time.Second)
			if c.atPorts || c.inConsul && standing {
				heard = c.now
			}
			if d.State == Dead && c.now.Sub(heard) < deadAfter {
				t.Fatalf("dead, and was heard of %s ago: %+v", c.now.Sub(heard), d)
			}
			if len(d.Expire) > 0 && d.State != Dead {
				t.Fatalf("%+v", d)
			}
		}
	})
}
