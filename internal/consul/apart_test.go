package consul_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul"
)

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
