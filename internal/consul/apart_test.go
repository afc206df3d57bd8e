package consul_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
)

// Questions that are held take no connection from those that are not, and no more
// than they are given.
func TestApart(t *testing.T) {
	t.Parallel()
	held, release := make(chan struct{}, 2), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Consul-Token") != "t" {
			t.Errorf("asked without the token: %s", r.URL)
		}
		if r.URL.Query().Has("index") {
			held <- struct{}{}
			<-release
		}
		fmt.Fprint(w, "{}")
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("t"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := consul.New(consul.Config{Address: server.URL, TokenFile: file, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	apart, err := client.Apart(1)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(ctx context.Context, c *consul.Client, index uint64) error {
		_, _, err := c.Catalog().Services((&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
		return err
	}
	first := make(chan error)
	go func() { first <- ask(t.Context(), apart, 1) }()
	<-held
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := ask(short, apart, 1); !errors.Is(err, context.DeadlineExceeded) || len(held) > 0 {
		t.Errorf("a second held question: %v, %d have reached Consul", err, len(held))
	}
	if err := ask(t.Context(), client, 0); err != nil {
		t.Errorf("another question: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := client.Usage().Requests[consul.Answered]; n != 2 {
		t.Errorf("%d answers counted, want both clients'", n)
	}
}

// A question that Consul holds is not cut off by a timeout that is meant for answers
// which come at once: else whoever waits for news would be blind again and again.
func TestHeldQuestionsOutliveTheTimeout(t *testing.T) {
	held, answer := make(chan struct{}, 2), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		held <- struct{}{}
		<-answer
		_, _ = w.Write([]byte("[]"))
	}))
	defer server.Close()
	client, err := consul.New(consul.Config{Address: server.URL, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	apart, err := client.Apart(1)
	if err != nil {
		t.Fatal(err)
	}
	news := make(chan error, 1)
	go func() {
		_, _, err := apart.Health().Service("web", "", false, new(api.QueryOptions).WithContext(t.Context()))
		news <- err
	}()
	select {
	case <-held:
	case err := <-news:
		t.Fatalf("not asked: %v", err)
	}
	if _, _, err := client.Health().Service("web", "", false, nil); err == nil {
		t.Error("a question that is not apart has no timeout")
	}
	close(answer) // what was asked before has waited for longer than that
	if err := <-news; err != nil {
		t.Errorf("the question that is held: %v", err)
	}
}
