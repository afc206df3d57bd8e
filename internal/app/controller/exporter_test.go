package controller

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/catalog"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/export"
)

// The tests in this file run the loop against a real Consul. Only the API server is
// simulated, at its port.

// The life of a Service, with a restart in the middle that writes nothing (I2, I6).
func TestServiceLife(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	r := east.start(t, kube).leads()
	r.rests() // what comes then is news
	kube.set("web", 3)
	eventuallyAt(t, c, "web", 3, 3)
	kube.change(func() {
		slice := kube.slices["web-a"]
		slice.Endpoints = slices.Clone(slice.Endpoints)
		slice.Endpoints[0].Ready = new(false)
		kube.slices["web-a"] = slice
		kube.touch("web")
	})
	eventuallyAt(t, c, "web", 2, 3)

	r.rests()
	if want, got := []string{"Normal web Published"}, kube.told(); !cmp.Equal(want, got) {
		t.Errorf("Events %q, want %q", got, want)
	}
	before := c.Index()
	r.end()
	r = east.start(t, kube.another()).leads()
	r.rests()
	if after := c.Index(); after != before {
		t.Errorf("raft index moved from %s to %s over a restart", before, after)
	}

	kube = r.kube
	kube.put(sliceOf("web", "a", 1, 3))
	eventuallyAt(t, c, "web", 2, 2)
	kube.removeWeb()
	eventuallyAt(t, c, "web", 0, 0)
	if got := kube.told(); len(got) > 0 {
		t.Errorf("Events %q after the restart", got)
	}
}

// A new leader writes nothing but what is due.
func TestI2NewLeaderOfTheExportWritesNothing(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	kube.set("web", 3)
	kube.set("api", 2)
	kube.set("typo", 2, func(svc *export.Service) { svc.Annotations["fairway.dev/service-prot"] = "http" })
	one := east.start(t, kube).leads()
	two := east.start(t, kube.another())
	eventuallyAt(t, c, "web", 3, 3)
	one.rests()
	two.rests()
	before := c.Index()
	one.end()
	two.leads()
	two.rests()
	if after := c.Index(); after != before {
		t.Errorf("raft index moved from %s to %s", before, after)
	}
	two.kube.put(sliceOf("web", "a", 0, 4))
	eventuallyAt(t, c, "web", 4, 4)
}

// A replica that does not lead, or has not seen the whole cluster, writes nothing.
func TestOnlyWhoLeadsAndSeesPublishes(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	kube.set("web", 2)
	r := east.start(t, kube)
	consultest.Eventually(t, "it has decided", func() error {
		if r.metric("fairway_export_instances", "state=due") != 2 {
			return fmt.Errorf("nothing is due")
		}
		return nil
	})
	if _, all := atServers(t, c, "web"); all != 0 {
		t.Errorf("%d instances were written by a replica that does not lead", all)
	}
	r.leads()
	eventuallyAt(t, c, "web", 2, 2)
	r.end()

	blind := kube.another()
	blind.synced = false
	clear(blind.services)
	clear(blind.slices)
	r = east.start(t, blind).leads()
	consultest.Eventually(t, "it says that it is blind", func() error {
		if why, _ := r.board.says(); !strings.Contains(why, "not complete yet") {
			return fmt.Errorf("it says %q", why)
		}
		return nil
	})
	if passing, _ := atServers(t, c, "web"); passing != 2 {
		t.Errorf("%d instances pass, want 2", passing)
	}
}

// I1: what the lists lack stays until the API server says that it is gone.
func TestI1MissingServicesAndSlicesAreHeld(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	kube.set("web", 2)
	kube.put(sliceOf("web", "b", 2, 4))
	kube.set("api", 2)
	r := east.start(t, kube).leads()
	eventuallyAt(t, c, "web", 4, 4)
	eventuallyAt(t, c, "api", 2, 2)
	r.rests()
	before := c.Index()
	r.end()

	kube = kube.another() // a new process, before which the lists are short
	kube.away = true
	kube.hidden = map[string]bool{"web-b": true, "api": true}
	r = east.start(t, kube).leads()
	consultest.Eventually(t, "what is missing is held and asked about", func() error {
		if held := r.metric("fairway_export_instances", "state=held"); held != 4 || r.metric("fairway_export_questions_total", "result=unknown") < 2 {
			return fmt.Errorf("%v are held", held)
		}
		return nil
	})
	if after := c.Index(); after != before {
		t.Errorf("raft index moved from %s to %s", before, after)
	}
	kube.change(func() { // the slice is there after all, the Service is gone
		kube.away = false
		delete(kube.services, "api")
	})
	eventuallyAt(t, c, "api", 0, 0)
	eventuallyAt(t, c, "web", 4, 4)
}

// Two clusters that publish one name never touch each other's instances (I5).
func TestI5TwoClustersPublishOneName(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	east, west := newFakeKubernetes(), newFakeKubernetes()
	east.set("web", 2)
	west.set("web", 3)
	one := publisher(c, "east").start(t, east).leads()
	two := publisher(c, "west").start(t, west).leads()
	eventuallyAt(t, c, "web", 5, 5)
	one.rests()
	two.rests()
	before := c.Index()
	one.rests()
	two.rests()
	if after := c.Index(); after != before {
		t.Errorf("raft index moved from %s to %s at rest", before, after)
	}
	east.removeWeb()
	eventuallyAt(t, c, "web", 3, 3)
	two.rests()
	if foreign := two.metric("fairway_export_instances", "state=foreign"); foreign != 0 {
		t.Errorf("%v foreign entries under the nodes of west", foreign)
	}
}

// What somebody else removes or changes under our nodes is put right, and what
// somebody else puts there is left alone (I5).
func TestForeignHands(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	kube.set("web", 3)
	r := east.start(t, kube).leads()
	eventuallyAt(t, c, "web", 3, 3)
	r.rests()
	node := catalog.NodeName("east", export.ShardName(export.ShardOf("shop", "web")))
	entries, _, err := c.Management().Catalog().Service("web", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Management().Catalog().Deregister(&api.CatalogDeregistration{Node: node, ServiceID: entries[0].ServiceID}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Management().Catalog().Register(&api.CatalogRegistration{
		Node: node, Address: entries[0].Address, NodeMeta: map[string]string{"fairway-cluster": "east", "fairway-node": entries[0].NodeMeta["fairway-node"]},
		Service: &api.AgentService{Service: "theirs", ID: "theirs"},
	}, nil); err != nil {
		t.Fatal(err)
	}
	eventuallyAt(t, c, "web", 3, 3)
	r.rests()
	eventuallyAt(t, c, "theirs", 1, 1)
	got, _, err := c.Management().Catalog().Node(node, &api.QueryOptions{RequireConsistent: true})
	if err != nil || got.Node.Meta["synthetic-node"] != "true" {
		t.Errorf("the virtual node was not put right: %+v, %v", got.Node, err)
	}
	if foreign := r.metric("fairway_export_instances", "state=foreign"); foreign != 1 {
		t.Errorf("%v foreign entries, want 1", foreign)
	}

	// The whole virtual node.
	if _, err := c.Management().Catalog().Deregister(&api.CatalogDeregistration{Node: node}, nil); err != nil {
		t.Fatal(err)
	}
	eventuallyAt(t, c, "web", 3, 3)
}

// I1: an answer that the ACLs have filtered is no answer.
func TestI1FilteredShardsAreUnknown(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	kube.set("web", 2)
	poor := newRights(c, "east", `service_prefix "api" { policy = "write" }`)
	r := east.start(t, kube).leads()
	eventuallyAt(t, c, "web", 2, 2)
	r.rests()
	r.end()
	before := c.Index()
	kube = kube.another()
	kube.set("api", 1)
	kube.removeWeb()
	kube.change(func() { kube.away = true })
	r = poor.start(t, kube).leads()
	consultest.Eventually(t, "it says that the answers are filtered", func() error {
		if why, _ := r.board.says(); !strings.Contains(why, "filtered") {
			return fmt.Errorf("it says %q", why)
		}
		return nil
	})
	if after := c.Index(); after != before {
		t.Errorf("raft index moved from %s to %s", before, after)
	}
}

// Consul's servers die and come back: nothing is taken away, and what has changed
// meanwhile is written.
func TestI2ConsulServersAway(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	kube.set("web", 3)
	r := east.start(t, kube).leads()
	eventuallyAt(t, c, "web", 3, 3)
	r.rests()
	c.Server.Stop()
	consultest.Eventually(t, "it says that Consul is away", func() error {
		if why, _ := r.board.says(); !strings.Contains(why, "could not be read from Consul") {
			return fmt.Errorf("it says %q", why)
		}
		return nil
	})
	kube.put(sliceOf("web", "a", 1, 4))
	kube.set("api", 1)
	c.Server.Start()
	c.WaitReady()
	eventuallyAt(t, c, "web", 3, 3)
	eventuallyAt(t, c, "api", 1, 1)
}

// I1: a mass of removals waits for a person, and is told of.
func TestI1MassRemovalOfServicesIsFrozen(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		kube.set(name, 1)
	}
	r := east.start(t, kube).leads()
	for _, name := range names {
		eventuallyAt(t, c, name, 1, 1)
	}
	r.rests()
	kube.change(func() { // nobody can confirm it
		kube.away = true
		for _, name := range names[:3] {
			delete(kube.services, name)
			kube.gone[serviceNamed(name)] = "its deletion was seen"
			kube.touch(name)
		}
	})
	consultest.Eventually(t, "it is frozen", func() error {
		if frozen := r.metric("fairway_export_removals_frozen"); frozen != 3 {
			return fmt.Errorf("%v are frozen", frozen)
		}
		return nil
	})
	if events := kube.told(); !slices.Contains(events, "Warning a RemovalsFrozen") {
		t.Errorf("Events: %q", events)
	}
	kube.allow("10 minutes")
	consultest.Eventually(t, "it is told that this is no time", func() error {
		if _, details := r.board.says(); !strings.Contains(details, `allow-removals-until="10 minutes" of Lease fairway-controller lets none pass: must be a time as 2006-`) {
			return errors.New(details)
		}
		return nil
	})
	for _, name := range names {
		eventuallyAt(t, c, name, 1, 1)
	}
	kube.allow(inSomeMinutes())
	for _, name := range names[:3] {
		eventuallyAt(t, c, name, 0, 0)
	}
	eventuallyAt(t, c, "d", 1, 1)
	consultest.Eventually(t, "that is told", func() error {
		if events := kube.told(); !slices.Contains(events, "Normal a RemovalsResumed") {
			return fmt.Errorf("%q", events)
		}
		return nil
	})
}

// A Service that Fairway has made of one in Consul does not go back there.
func TestImportedServicesAreNotPublished(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	east := publisher(c, "east")
	kube.set("mine", 1)
	kube.set("theirs", 1, func(svc *export.Service) { svc.Imported, svc.Annotations = true, nil })
	r := east.start(t, kube).leads()
	eventuallyAt(t, c, "mine", 1, 1)
	r.rests()
	if _, all := atServers(t, c, "theirs"); all != 0 {
		t.Errorf("%d instances of a Service that was imported", all)
	}
	kube.set("theirs", 1, func(svc *export.Service) { svc.Imported = true }) // asks for it
	eventuallyAt(t, c, "theirs", 1, 1)
}

// What Consul refuses is told on the Service, and holds nothing else up.
func TestRefusedServicesAreToldOf(t *testing.T) {
	t.Parallel()
	c, kube := consultest.Start(t, false), newFakeKubernetes()
	kube.set("web-1", 2)
	kube.set("secret", 2)
	poor := newRights(c, "east", `
node_prefix "fairway-east-services-" { policy = "write" }
service_prefix ""                    { policy = "read" }
service_prefix "web-"                { policy = "write" }`)
	r := poor.start(t, kube).leads()
	eventuallyAt(t, c, "web-1", 2, 2)
	consultest.Eventually(t, "the refusal is told", func() error {
		if refused := r.metric("fairway_export_instances", "state=refused"); refused != 2 || !slices.Contains(kube.told(), "Warning secret RegistryRefused") {
			return fmt.Errorf("%v refused, Events %q", refused, kube.told())
		}
		return nil
	})
}
