package fault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
)

// Options are what New needs. All fields are required.
type Options struct {
	Certificate tls.Certificate // shown to clients
	Upstream    *url.URL        // the real server
	UpstreamCAs *x509.CertPool  // who signs the real server's certificate
	Log         *slog.Logger
}

// Proxy answers requests by passing them on or by what its mode says.
type Proxy struct {
	server    *http.Server
	upstream  *httputil.ReverseProxy
	transport *http.Transport
	log       *slog.Logger

	mu  sync.Mutex
	now *era
}

// era is the time between two mode switches.
type era struct {
	mode  Mode
	ctx   context.Context       // ends with the era, and with it the era's requests
	end   context.CancelFunc    // called by the switch to the next era
	conns map[net.Conn]struct{} // clients' connections made in it
	met   atomic.Int64          // requests that came in it
}

// connKey is the context key of a request's client connection.
type connKey struct{}

// New returns a proxy that passes everything on.
func New(o Options) *Proxy {
	p := &Proxy{
		transport: &http.Transport{
			TLSClientConfig:    &tls.Config{RootCAs: o.UpstreamCAs},
			ForceAttemptHTTP2:  true,
			DisableCompression: true, // whether to compress is between client and server
		},
		log: o.Log,
		now: newEra(Off),
	}
	errorLog := slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)
	p.upstream = p.newUpstream(o.Upstream, errorLog)
	p.server = &http.Server{
		Handler:   http.HandlerFunc(p.serve),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{o.Certificate}},
		ErrorLog:  errorLog,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if secured, ok := conn.(*tls.Conn); ok { // it always is: see Serve
				conn = secured.NetConn()
			}
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	return p
}

func newEra(mode Mode) *era {
	ctx, end := context.WithCancel(context.Background())
	return &era{mode: mode, ctx: ctx, end: end, conns: map[net.Conn]struct{}{}}
}

func (p *Proxy) newUpstream(target *url.URL, errorLog *log.Logger) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport:     p.transport,
		FlushInterval: -1, // events of a watch must not wait for each other
		ErrorLog:      errorLog,
		// A server that is not there answers nothing, and neither does the
		// proxy: an HTTP error of its own would be one no real server gives.
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			p.log.Info("no answer from upstream", "method", r.Method, "path", r.URL.Path, "err", err)
			if client, ok := r.Context().Value(connKey{}).(net.Conn); ok {
				client.Close()
			}
			panic(http.ErrAbortHandler)
		},
	}
}

// Serve answers clients of a listener until Close is called. It may be called
// for several listeners at once.
func (p *Proxy) Serve(l net.Listener) error {
	err := p.server.ServeTLS(&listener{Listener: l, proxy: p}, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close closes all listeners and connections.
func (p *Proxy) Close() error {
	err := p.server.Close()
	p.SetMode(p.Mode()) // ends requests that wait for a switch
	p.transport.CloseIdleConnections()
	return err
}

// Mode returns the mode.
func (p *Proxy) Mode() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now.mode
}

// Met returns how many requests have come since the last switch of the mode.
func (p *Proxy) Met() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return int(p.now.met.Load())
}

// SetMode switches the mode, also to the one it already has, and then cuts all
// connections of clients. So no watch outlives a switch, and when SetMode
// returns no client has an answer of the old mode still to come.
func (p *Proxy) SetMode(mode Mode) {
	p.mu.Lock()
	old := p.now
	p.now = newEra(mode)
	p.mu.Unlock()

	// Nobody adds to the connections of an era that is over. Closing the bare
	// connection, without TLS's goodbye, cannot block on a client that does
	// not read.
	for conn := range old.conns {
		conn.Close()
	}
	old.end()
	p.transport.CloseIdleConnections()
	p.log.Info("mode switched", "from", old.mode, "to", mode, "cut", len(old.conns))
}

// serve answers one request according to the mode.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	now := p.now
	p.mu.Unlock()
	now.met.Add(1)

	// A request ends with its era, also where the server does not notice that
	// its connection is cut, as while a body is still unread.
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(now.ctx, cancel)()
	r = r.WithContext(ctx)

	switch now.mode {
	case Off:
		p.upstream.ServeHTTP(w, r)
	case Hang:
		<-ctx.Done()
		panic(http.ErrAbortHandler)
	default:
		answer(w, r, now.mode)
	}
}
