package tokens

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"fairway.dev/fairway/internal/service"
)

const issuer = "https://kubernetes.default.svc.cluster.local"

// cluster publishes keys and signs tokens.
type cluster struct {
	t    testing.TB
	keys map[string]any // private, by id

	mu    sync.Mutex
	down  bool
	asked int
	extra []string // more members of the key set, as JSON
}

func newCluster(t testing.TB) *cluster {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, keys: map[string]any{"k1": key}}
}

func (c *cluster) fetch(context.Context) (Published, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.down {
		return Published{}, errors.New("the API server is away")
	}
	var members []string
	for id, private := range c.keys {
		key := (&jose.JSONWebKey{Key: private, KeyID: id, Use: "sig"}).Public()
		data, err := key.MarshalJSON()
		if err != nil {
			return Published{}, err
		}
		members = append(members, string(data))
	}
	members = append(members, c.extra...)
	return Published{Issuer: issuer, Keys: json.RawMessage(`{"keys":[` + strings.Join(members, ",") + `]}`)}, nil
}

func (c *cluster) asks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

func (c *cluster) change(edit func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit()
}

// good is what the API server would put into the token of pod web-0.
func good() map[string]any {
	now := time.Now().Unix()
	return map[string]any{
		"iss": issuer, "aud": []string{"fairway"}, "iat": now, "nbf": now, "exp": now + 600,
		"sub": "system:serviceaccount:shop:default",
		"kubernetes.io": map[string]any{
			"namespace":      "shop",
			"pod":            map[string]any{"name": "web-0", "uid": "u1"},
			"node":           map[string]any{"name": "n1", "uid": "u2"},
			"serviceaccount": map[string]any{"name": "default", "uid": "u3"},
		},
	}
}

func (c *cluster) sign(claims map[string]any, alg jose.SignatureAlgorithm, id string, key any) string {
	c.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}

func (c *cluster) token(claims map[string]any) string {
	return c.sign(claims, jose.ES256, "k1", c.keys["k1"])
}

func newVerifier(t testing.TB, c *cluster, file string) *Verifier {
	v, err := New(Options{Node: "n1", Fetch: c.fetch, File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestI8TokenSpeaksForItsOwnPod: only a live token that this cluster has made
// for us and bound to a pod of this node is taken.
func TestI8TokenSpeaksForItsOwnPod(t *testing.T) {
	c := newCluster(t)
	v := newVerifier(t, c, "")
	want := service.PodRef{Namespace: "shop", Name: "web-0", UID: "u1"}
	if pod, err := v.Verify(t.Context(), c.token(good())); err != nil || pod != want {
		t.Fatalf("a good token: %+v, %v", pod, err)
	}

	with := func(edit func(claims, bound map[string]any)) string {
		claims := good()
		bound := claims["kubernetes.io"].(map[string]any)
		edit(claims, bound)
		return c.token(claims)
	}
	set := func(key string, value any) string {
		return with(func(claims, _ map[string]any) {
			if claims[key] = value; value == nil {
				delete(claims, key)
			}
		})
	}
	now := time.Now().Unix()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	header, payload, _ := strings.Cut(c.token(good()), ".")
	body, signature, _ := strings.Cut(payload, ".")
	for name, test := range map[string]struct{ token, want string }{
		"empty":            {"", "no signed token"},
		"garbage":          {"a.b.c", "no signed token"},
		"many dots":        {strings.Repeat(".", 5000), "no signed token"},
		"too long":         {strings.Repeat("a", longest+1), "longer than"},
		"unsigned":         {"eyJhbGciOiJub25lIn0." + body + ".", "no signed token"},
		"another body":     {header + "." + body[:len(body)-4] + "AAAA." + signature, "signature"},
		"another key":      {c.sign(good(), jose.ES256, "k1", other), "signature"},
		"key not known":    {c.sign(good(), jose.ES256, "k9", other), "not one of the cluster's"},
		"no key id":        {c.sign(good(), jose.ES256, "", other), "not one of the cluster's"},
		"a secret for key": {c.sign(good(), jose.HS256, "k1", []byte(strings.Repeat("k", 32))), "no signed token"},
		"issuer":           {set("iss", "https://elsewhere"), `its issuer is "https://elsewhere"`},
		"no issuer":        {set("iss", nil), "issuer"},
		"for the API":      {set("aud", []string{"https://kubernetes.default.svc"}), `not for "fairway"`},
		"for nobody":       {set("aud", nil), `not for "fairway"`},
		"expired":          {set("exp", now-60), "expired"},
		"for ever":         {set("exp", nil), "never expires"},
		"not yet":          {set("nbf", now+600), "not valid yet"},
		"from tomorrow":    {set("iat", now+600), "not valid yet"},
		"not bound":        {set("kubernetes.io", nil), "not bound to a pod"},
		"bound to no pod":  {with(func(_, bound map[string]any) { delete(bound, "pod") }), "not bound to a pod"},
		"pod without uid":  {with(func(_, bound map[string]any) { bound["pod"] = map[string]any{"name": "web-0"} }), "not bound to a pod"},
		"another node":     {with(func(_, bound map[string]any) { bound["node"] = map[string]any{"name": "n2"} }), `a pod of node "n2"`},
		"no node":          {with(func(_, bound map[string]any) { delete(bound, "node") }), `a pod of node ""`},
	} {
		t.Run(name, func(t *testing.T) {
			pod, err := v.Verify(t.Context(), test.token)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.want) || pod != (service.PodRef{}) {
				t.Errorf("%+v, %v; want an error that contains %q", pod, err, test.want)
			}
		})
	}
}

// Clocks differ a little.
func TestLeeway(t *testing.T) {
	c := newCluster(t)
	v := newVerifier(t, c, "")
	claims := good()
	later := time.Now().Add(leeway - 5*time.Second).Unix()
	maps.Copy(claims, map[string]any{"nbf": later, "iat": later})
	if _, err := v.Verify(t.Context(), c.token(claims)); err != nil {
		t.Error(err)
	}
}

// TestKeys: keys outlive the API server and the process, new ones are found
// when they are met, and a set that is not usable changes nothing (I1).
func TestKeys(t *testing.T) {
	c := newCluster(t)
	file := filepath.Join(t.TempDir(), "keys.json")
	c.down = true
	v := newVerifier(t, c, file)
	if _, err := v.Verify(t.Context(), c.token(good())); !errors.Is(err, ErrNoKeys) {
		t.Errorf("before any key was read: %v", err)
	}

	c.change(func() { c.down = false })
	v.tried = time.Time{}
	if _, err := v.Verify(t.Context(), c.token(good())); err != nil {
		t.Error(err)
	}
	c.change(func() { c.down = true })
	if _, err := newVerifier(t, c, file).Verify(t.Context(), c.token(good())); err != nil {
		t.Errorf("the next process, without the API server: %v", err)
	}

	rotated, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c.change(func() {
		c.down = false
		c.keys = map[string]any{"k2": rotated}
		// Kinds of keys that are not known here must not hide those that are.
		c.extra = []string{`{"kty":"AKP","kid":"k3","alg":"ML-DSA-44","pub":"AA"}`, `{"kty":"oct","kid":"k4","k":"AAAA"}`}
	})
	v.tried = time.Time{}
	if _, err := v.Verify(t.Context(), c.sign(good(), jose.RS256, "k2", rotated)); err != nil {
		t.Errorf("a token with the new key: %v", err)
	}
	if v.Len() != 1 {
		t.Errorf("%d keys, want 1: a secret is no key to check with", v.Len())
	}
	asked := c.asked
	for range 10 {
		if _, err := v.Verify(t.Context(), c.sign(good(), jose.RS256, "k9", rotated)); !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
	}
	if c.asked != asked {
		t.Errorf("%d questions because of unknown keys in a moment", c.asked-asked)
	}
	for _, useless := range []Published{
		{}, {Issuer: issuer}, {Issuer: issuer, Keys: json.RawMessage(`{"keys":[]}`)},
		{Issuer: issuer, Keys: json.RawMessage(`{"kind":"Status"}`)}, {Keys: json.RawMessage(`{}`)},
	} {
		if err := v.take(useless); err == nil || v.Len() != 1 {
			t.Errorf("%+v was taken: %v", useless, err)
		}
	}
}

// Run reads the keys at once, again when that failed, and then now and then.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.down = true
		v := newVerifier(t, c, "")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- v.Run(ctx) }()
		synctest.Wait()
		if asked := c.asks(); asked != 1 || v.Len() != 0 {
			t.Errorf("at the start: asked %d times, %d keys", asked, v.Len())
		}
		c.change(func() { c.down = false })
		time.Sleep(firstRetry)
		synctest.Wait()
		if asked := c.asks(); asked != 2 || v.Len() != 1 {
			t.Errorf("after the first retry: asked %d times, %d keys", asked, v.Len())
		}
		time.Sleep(2 * refreshEvery)
		synctest.Wait()
		if asked := c.asks(); asked != 4 {
			t.Errorf("asked %d times in %s", asked, 2*refreshEvery)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	c := newCluster(f)
	v := newVerifier(f, c, "")
	f.Add(c.token(good()))
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		pod, err := v.Verify(t.Context(), token)
		if err != nil && pod != (service.PodRef{}) {
			t.Errorf("an error and a pod: %v, %+v", err, pod)
		}
		if err == nil && pod.UID != "u1" {
			t.Errorf("a pod that nobody has signed: %+v", pod)
		}
	})
}

func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"a","crv":"P-256","x":"","y":""}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys and error %v", len(keys), err)
		}
	})
}

// A file of keys that is not what was written there is as good as none.
func FuzzKeysFile(f *testing.F) {
	c := newCluster(f)
	f.Add([]byte(`{"issuer":"https://x","keys":"e30="}`))
	f.Add([]byte(`{"issuer":"https://x","keys":"eyJrZXlzIjpudWxsfQ=="}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		v := newVerifier(t, c, file)
		if issuer, _, _ := v.known("any"); (issuer == "") != (v.Len() == 0) {
			t.Errorf("issuer %q and %d keys", issuer, v.Len())
		}
	})
}
