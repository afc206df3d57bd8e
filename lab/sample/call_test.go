package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// TestCall: what another app says, and what keeps it from saying it, is passed on.
func TestCall(t *testing.T) {
	other := newApp("web-1", true)
	server := httptest.NewServer(other.routes())
	defer server.Close()
	for name, test := range map[string]struct {
		url, want string
		code      int
	}{
		"answer":      {server.URL, "web-1", http.StatusOK},
		"no":          {server.URL + "/other", "404 page not found", http.StatusNotFound},
		"no such app": {"http://127.0.0.1:1/", "connection refused", http.StatusBadGateway},
		"no address":  {"http://", "no Host", http.StatusBadGateway},
		"no url":      {"::", "missing protocol scheme", http.StatusBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := request(t, newApp("web-0", true), http.MethodGet, "/call?url="+url.QueryEscape(test.url))
			if code != test.code || !strings.Contains(body, test.want) {
				t.Errorf("%d %q, want %d and %q", code, body, test.code, test.want)
			}
		})
	}
}
