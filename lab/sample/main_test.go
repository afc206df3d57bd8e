package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"
)

// start runs the sample on a free port and returns its URL, what stops it and
// what run returns.
func start(t *testing.T, drain time.Duration) (url string, stop func(), ended <-chan error) {
	t.Helper()
	t.Setenv("POD_NAME", "web-0")
	ctx, stop := context.WithCancel(t.Context())
	said, log := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, "127.0.0.1:0", drain, slog.New(slog.NewJSONHandler(log, nil)))
		log.Close()
	}()
	var line struct{ Address string }
	if err := json.NewDecoder(said).Decode(&line); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	return "http://" + line.Address, stop, done
}

// call returns the code of an answer and leaves no connection behind.
func call(method, url string) (int, error) {
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		return 0, err
	}
	request.Close = true
	response, err := new(http.Client).Do(request)
	if err != nil {
		return 0, err
	}
	response.Body.Close()
	return response.StatusCode, nil
}

func TestServesWhileItDrains(t *testing.T) {
	url, stop, ended := start(t, 300*time.Millisecond)
	stop()
	if code, err := call(http.MethodGet, url); err != nil || code != http.StatusOK {
		t.Errorf("during the drain: %d %v", code, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if code, err := call(http.MethodGet, url); err == nil {
		t.Errorf("after the drain: %d", code)
	}
}

func TestFinishesRequestsInFlight(t *testing.T) {
	url, stop, ended := start(t, 0)
	if _, err := call(http.MethodPost, url+"/delay?for=300ms"); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		code int
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		code, err := call(http.MethodGet, url)
		answered <- answer{code, err}
	}()
	for inFlight(t, url) == 0 {
		t.Log("the request is on its way") // each look is a request, so this does not spin
	}
	stop()
	if got := <-answered; got.err != nil || got.code != http.StatusOK {
		t.Errorf("the request in flight: %d %v", got.code, got.err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAddressInUse(t *testing.T) {
	url, stop, ended := start(t, 0)
	if err := run(t.Context(), url[len("http://"):], 0, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no error for an address that is in use")
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func inFlight(t *testing.T, url string) int64 {
	t.Helper()
	response, err := new(http.Client).Get(url + "/info")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got report
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	return got.InFlight
}
