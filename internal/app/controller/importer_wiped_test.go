package controller

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/consul/discovery"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// Servers that have lost their data take no endpoint away, however often they say
// that there is none, until a person lets them go.
func TestI1WipedConsulKeepsImports(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	for revision := range 30 { // so that the index is higher than that of new servers
		for n := range 2 {
			registration := &api.CatalogRegistration{
				Node: fmt.Sprint("vm-", n), Address: netip.AddrFrom4([4]byte{198, 18, 0, byte(n)}).String(),
				Service: &api.AgentService{Service: "web", Port: 8080, Tags: []string{fmt.Sprint(revision)}},
			}
			if _, err := c.Management().Catalog().Register(registration, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	client, _ := c.Server.FairwayClient(c.ManagementToken())
	servers, err := discovery.New(client, 4)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = servers.Run(t.Context()) }()
	s := newShop("web")
	e := &eye{s, make(chan struct{}, 1)}
	leader, _ := e.control(t, servers)
	lead(t, leader)
	await := func(what string, endpoints int, held bool, reason string) {
		t.Helper()
		consultest.Eventually(t, what, func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			n := 0
			for _, slice := range s.slices {
				n += len(slice.Endpoints)
			}
			for _, c := range s.status.Conditions {
				if c.Type == consulimport.ConditionRemovalsHeld && (c.Status == service.ConditionTrue) == held && c.Reason == reason && n == endpoints {
					return nil
				}
			}
			return fmt.Errorf("%d endpoints, status %+v", n, s.status)
		})
	}
	await("both instances are endpoints", 2, false, consulimport.ReasonNothingHeld)
	c.Server.Wipe()
	c.Server.Start()
	c.WaitReady()
	await("they are held", 2, true, consulimport.ReasonIndexWentBack)
	asked := func() time.Time {
		_, answers := servers.View()
		return answers[consulimport.Origin{Name: "web"}].Asked
	}
	first := asked()
	consultest.Eventually(t, "Consul says so once more", func() error {
		if !asked().After(first) {
			return errors.New("not yet")
		}
		return nil
	})
	await("they are held still", 2, true, consulimport.ReasonIndexWentBack)
	s.change(func() { s.in.AllowedUntil = time.Now().Add(time.Minute) })
	await("a person has let them go", 0, false, consulimport.ReasonNothingHeld)
}
