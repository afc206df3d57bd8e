package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairway.dev/fairway/lab/faultproxy/fault"
)

// TestRun runs the whole program before a real TLS server.
func TestRun(t *testing.T) {
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
	}))
	defer upstream.Close()
	o := newOptions(t, upstream)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said, log := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, o, slog.New(slog.NewJSONHandler(log, nil)))
		log.Close()
	}()
	listened := addresses(t, said, len(o.listen))
	go func() { _, _ = io.Copy(io.Discard, said) }()
	awaitMode(t, o.control, done)

	for mode, want := range map[fault.Mode]int{
		fault.Off: http.StatusTeapot, fault.Forbidden: http.StatusForbidden, fault.Broken: http.StatusInternalServerError,
	} {
		if err := fault.SetMode(t.Context(), o.control, mode); err != nil {
			t.Fatal(err)
		}
		for _, address := range listened {
			if code := get(t, upstream, address); code != want {
				t.Errorf("%s: code %d in mode %s, want %d", address, code, mode, want)
			}
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(o.control); err == nil {
		t.Error("the control socket is left behind")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	upstream := httptest.NewTLSServer(http.NotFoundHandler())
	defer upstream.Close()
	for want, spoil := range map[string]func(*options){
		"are needed":           func(o *options) { o.control = "" },
		"certificate":          func(o *options) { o.certFile = filepath.Join(t.TempDir(), "none") },
		"not an https URL":     func(o *options) { o.upstream = "http://127.0.0.1" },
		"holds no certificate": func(o *options) { o.upstreamCA = o.keyFile },
	} {
		o := newOptions(t, upstream)
		spoil(&o)
		if err := run(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want %q", err, want)
		}
	}
}

// newOptions returns the options of a proxy that shows the upstream's own
// certificate, on two free ports.
func newOptions(t *testing.T, upstream *httptest.Server) options {
	t.Helper()
	dir := t.TempDir()
	certificate := upstream.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	o := options{
		listen:   []string{"127.0.0.1:0", "127.0.0.2:0"},
		certFile: filepath.Join(dir, "cert.pem"),
		keyFile:  filepath.Join(dir, "key.pem"),
		upstream: upstream.URL,
		control:  filepath.Join(dir, "control"),
	}
	o.upstreamCA = o.certFile
	for path, block := range map[string]*pem.Block{
		o.certFile: {Type: "CERTIFICATE", Bytes: certificate.Certificate[0]},
		o.keyFile:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

// awaitMode waits until a proxy answers on its control socket.
func awaitMode(t *testing.T, socket string, done <-chan error) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		_, err := fault.GetMode(t.Context(), socket)
		if err == nil {
			return
		}
		select {
		case err := <-done:
			t.Fatalf("the proxy ended: %v", err)
		case <-deadline:
			t.Fatal(err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// addresses reads a log until it has said n times what is listened on.
func addresses(t *testing.T, log io.Reader, n int) (found []string) {
	t.Helper()
	for lines := json.NewDecoder(log); len(found) < n; {
		var line struct{ Msg, Address string }
		if err := lines.Decode(&line); err != nil {
			t.Fatal(err)
		}
		if line.Msg == "listening" {
			found = append(found, line.Address)
		}
	}
	return found
}

func get(t *testing.T, upstream *httptest.Server, address string) int {
	t.Helper()
	authorities := x509.NewCertPool()
	authorities.AddCert(upstream.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: authorities, ServerName: "example.com", // what the certificate is for, whatever the address
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Get("https://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}
