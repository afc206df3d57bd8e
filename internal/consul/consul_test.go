package consul_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
	"fairway.dev/fairway/internal/consul/consultest"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		err    error
		kind   error
		reason string
	}{
		{api.StatusError{Code: 403, Body: "Permission denied: token lacks service:write on \"web\""}, consul.ErrDenied,
			`denied by Consul's ACLs: Permission denied: token lacks service:write on "web"`},
		{api.StatusError{Code: 500, Body: "rpc error making call: ACL not found"}, consul.ErrDenied,
			"denied by Consul's ACLs: rpc error making call: ACL not found"},
		{api.StatusError{Code: 400, Body: "Invalid Service Meta"}, consul.ErrInvalid, "refused by Consul as invalid: Invalid Service Meta"},
		{api.StatusError{Code: 404, Body: "Unknown service ID"}, consul.ErrNotFound, "not known to Consul"},
		{api.StatusError{Code: 429, Body: "slow down"}, consul.ErrThrottled, "no usable answer from Consul: it asks to come back later"},
		{api.StatusError{Code: 503, Body: "slow down"}, consul.ErrUnavailable, "no usable answer from Consul: it asks to come back later"},
		{api.StatusError{Code: 500, Body: "No cluster leader"}, consul.ErrUnavailable, "no usable answer from Consul"},
		{&url.Error{Op: "Get", URL: "http://127.0.0.1:1", Err: io.EOF}, consul.ErrUnavailable, "no usable answer from Consul"},
		{fmt.Errorf("read: %w", context.DeadlineExceeded), consul.ErrUnavailable, "no usable answer from Consul"},
		{io.ErrUnexpectedEOF, consul.ErrUnusable, "the answer is not a usable one of Consul"},
	} {
		got := consul.Classify(c.err)
		if !errors.Is(got, c.kind) || !errors.Is(got, c.err) {
			t.Errorf("%v: got %v, want kind %v", c.err, got, c.kind)
		}
		// Callers wrap errors, and that must not change what users read.
		if reason := consul.Reason(fmt.Errorf("register x: %w", got)); reason != c.reason {
			t.Errorf("%v: reason %q, want %q", c.err, reason, c.reason)
		}
	}
	if err := consul.Classify(nil); err != nil {
		t.Errorf("nil became %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:8500", "ftp://127.0.0.1", "http://"} {
		if _, err := consul.New(consul.Config{Address: address}); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
}

// The token file may come late, change, and be missing for a moment while it
// changes.
func TestTokenFile(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	file := filepath.Join(t.TempDir(), "token")
	client, err := consul.New(consul.Config{Address: c.Server.Address, TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	identity := consul.NewIdentity(client)
	if _, err := identity.NodeName(t.Context()); !errors.Is(err, consul.ErrDenied) || client.TokenGeneration() != 0 {
		t.Errorf("without the file: %v, generation %d", err, client.TokenGeneration())
	}
	for generation := uint64(1); generation <= 2; generation++ {
		if err := os.WriteFile(file, []byte(c.Token(consultest.FairwayRules)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		identity.Forget()
		if name, err := identity.NodeName(t.Context()); err != nil || name != c.Server.Node || client.TokenGeneration() != generation {
			t.Errorf("token %d: %q, %v, generation %d", generation, name, err, client.TokenGeneration())
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	identity.Forget()
	if _, err := identity.NodeName(t.Context()); err != nil || client.TokenGeneration() != 2 {
		t.Errorf("with the file gone: %v, generation %d", err, client.TokenGeneration())
	}
}

// A login makes a token of its own, and another when that one is deleted. At
// the end none is left.
func TestLogin(t *testing.T) {
	t.Parallel()
	c := consultest.Start(t, false)
	issuer := c.AuthMethod(consultest.CatalogRules)
	bearer := filepath.Join(t.TempDir(), "bearer")
	client := c.Server.LoginClient(issuer, bearer)
	read := func() error {
		_, _, err := client.Catalog().Node(c.Server.Node, (&api.QueryOptions{}).WithContext(t.Context()))
		return consul.Classify(err)
	}
	logins := func() []*api.ACLTokenListEntry {
		t.Helper()
		tokens, _, err := c.Management().ACL().TokenListFiltered(api.ACLTokenFilterOptions{AuthMethod: issuer.Method}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(bearer, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	if err := read(); !errors.Is(err, consul.ErrDenied) || client.TokenGeneration() != 0 {
		t.Errorf("without a bearer: %v, generation %d", err, client.TokenGeneration())
	}
	write(issuer.Bearer(-time.Hour))
	consultest.Eventually(t, "Consul refuses a bearer that has expired", func() error {
		if err := read(); !errors.Is(err, consul.ErrDenied) || !strings.Contains(consul.Reason(err), "expired") {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	write(issuer.Bearer(time.Hour))
	consultest.Eventually(t, "a good bearer is taken", read)
	if err := read(); err != nil || client.TokenGeneration() != 1 || len(logins()) != 1 {
		t.Errorf("logged in: %v, generation %d, %d tokens", err, client.TokenGeneration(), len(logins()))
	}

	if _, err := c.Management().ACL().TokenDelete(logins()[0].AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	consultest.Eventually(t, "another token takes the place of the deleted one", read)
	if client.TokenGeneration() != 2 || len(logins()) != 1 {
		t.Errorf("generation %d, %d tokens", client.TokenGeneration(), len(logins()))
	}
	if u := client.Usage(); u.Logins != 2 || u.LoginsFailed == 0 || u.Requests[consul.Answered] == 0 || u.Requests[consul.NoToken] == 0 {
		t.Errorf("usage %+v: want two logins and some that failed, answers, and requests without a token that Consul knows", u)
	}
	if err := client.Logout(t.Context()); err != nil || len(logins()) != 0 {
		t.Errorf("logged out: %v, %d tokens", err, len(logins()))
	}
}
