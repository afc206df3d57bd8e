package agentapi_test

import (
	"os"
	"testing"

	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// Entries that the agent syncs with a token of before have lapsed until they
// are renewed: that token may end at any time.
func TestEntriesLapseWithTheirToken(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, true)
	s := newSide(t, c.Client, c.Token(consultest.FairwayRules))
	s.apply(registration.Register, web(1, service.Passing))
	lapsed := func(when string, want bool) {
		t.Helper()
		if got := s.observe(); len(got) != 1 || got[0].Lapsed != want {
			t.Errorf("%s: %+v, want lapsed %v", when, got, want)
		}
	}
	lapsed("at first", false)
	if err := os.WriteFile(s.tokenFile, []byte(c.Token(consultest.FairwayRules)), 0o600); err != nil {
		t.Fatal(err)
	}
	lapsed("with another token", true)
	if err := s.Renew(t.Context(), s.observe()); err != nil {
		t.Fatal(err)
	}
	lapsed("renewed", false)
}
