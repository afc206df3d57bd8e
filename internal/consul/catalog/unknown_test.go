package catalog_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// I1: servers that lost what was written do not make it absent at once. When
// they go on saying so, they are believed, and it is written again.
func TestI1IndexGoesBackwards(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	backup, _, err := c.Management().Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer backup.Close()
	in := web(1, service.Passing)
	s.observe()
	s.apply(registration.Register, in)
	if err := c.Management().Snapshot().Restore(nil, backup); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Observe(t.Context()); !errors.Is(err, consul.ErrUnusable) {
		t.Errorf("at first: %v, %v", got, err)
	}
	if got := s.observe(); len(got) != 0 {
		t.Errorf("then: %v", got)
	}
	s.apply(registration.Register, in)
	if proof := s.prove(in); proof.Finding != gate.Passing {
		t.Errorf("registered again: %+v", proof)
	}
}

// I1: what the ACLs hide is not absent, and neither is what nobody answers.
func TestI1UnknownIsNotAbsent(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	s := newSide(t, c, c.Token(consultest.CatalogRules))
	in := web(1, service.Passing)
	s.observe()
	s.apply(registration.Register, in)

	for name, blind := range map[string]struct {
		rules string
		kind  error
	}{
		"no nodes":    {`service_prefix "" { policy = "write" }`, consul.ErrFiltered},
		"no services": {`node_prefix "" { policy = "read" }`, consul.ErrFiltered},
	} {
		if got, err := newSide(t, c, c.Token(blind.rules)).Observe(t.Context()); !errors.Is(err, blind.kind) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	nobody := newSide(t, c, "00000000-0000-0000-0000-000000000000")
	if got, err := nobody.Observe(t.Context()); !errors.Is(err, consul.ErrDenied) {
		t.Errorf("unknown token: %v, %v", got, err)
	}

	c.Server.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got, err := s.Observe(ctx); !errors.Is(err, consul.ErrUnavailable) {
		t.Errorf("a server that hangs: %v, %v", got, err)
	}
	c.Server.Resume()
	c.Server.Stop()
	if got, err := s.Observe(t.Context()); !errors.Is(err, consul.ErrUnavailable) {
		t.Errorf("no server: %v, %v", got, err)
	}
	if err := s.try(registration.SetHealth, in); !errors.Is(err, consul.ErrUnavailable) {
		t.Errorf("write without a server: %v", err)
	}

	c.Server.Start()
	c.WaitReady()
	if got := s.observe(); len(got) != 1 || got[0].Instance.Health != service.Passing || got[0].Lapsed {
		t.Errorf("after the restart: %v", got)
	}
}
