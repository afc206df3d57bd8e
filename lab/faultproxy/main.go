// Command faultproxy stands in front of a Kubernetes server of the lab and
// makes it look sick when it is told to through its control socket:
//
//	curl --unix-socket SOCKET http://control/mode            # which mode
//	curl --unix-socket SOCKET http://control/mode -d garbage # switch
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"fairway.dev/fairway/lab/faultproxy/fault"
)

// options are the command's flags.
type options struct {
	listen     []string
	certFile   string
	keyFile    string
	upstream   string
	upstreamCA string
	control    string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.Func("listen", "`ADDRESS` to answer clients on; may be given several times or as a comma separated list", func(value string) error {
		o.listen = append(o.listen, strings.Split(value, ",")...)
		return nil
	})
	flag.StringVar(&o.certFile, "cert", "", "`FILE` with the certificate shown to clients")
	flag.StringVar(&o.keyFile, "key", "", "`FILE` with the certificate's key")
	flag.StringVar(&o.upstream, "upstream", "", "`URL` of the real server")
	flag.StringVar(&o.upstreamCA, "upstream-ca", "", "`FILE` with the authorities that sign the real server's certificate")
	flag.StringVar(&o.control, "control", "", "`PATH` of the control socket; it answers once all addresses are listened on")
	flag.Parse()
	if err := run(ctx, o, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "faultproxy:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o options, logger *slog.Logger) error {
	proxy, err := newProxy(o, logger)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, address := range o.listen {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("listen for clients: %w", err)
		}
		logger.Info("listening", "address", l.Addr().String(), "upstream", o.upstream)
		group.Go(func() error { return proxy.Serve(l) })
	}
	controlListener, err := fault.ListenControl(ctx, o.control)
	if err != nil {
		return errors.Join(err, proxy.Close())
	}
	control := &http.Server{Handler: proxy.ControlHandler(), ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		if err := control.Serve(controlListener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the control socket: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return errors.Join(proxy.Close(), control.Close())
	})
	return group.Wait()
}

func newProxy(o options, logger *slog.Logger) (*fault.Proxy, error) {
	if len(o.listen) == 0 || o.certFile == "" || o.keyFile == "" || o.upstream == "" || o.upstreamCA == "" || o.control == "" {
		return nil, errors.New("all of --listen --cert --key --upstream --upstream-ca --control are needed")
	}
	certificate, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate for clients: %w", err)
	}
	upstream, err := url.Parse(o.upstream)
	if err != nil || upstream.Scheme != "https" || upstream.Host == "" {
		return nil, fmt.Errorf("--upstream %q is not an https URL", o.upstream)
	}
	pem, err := os.ReadFile(o.upstreamCA)
	if err != nil {
		return nil, fmt.Errorf("read the upstream's authorities: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", o.upstreamCA)
	}
	return fault.New(fault.Options{Certificate: certificate, Upstream: upstream, UpstreamCAs: authorities, Log: logger}), nil
}
