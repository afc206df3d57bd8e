// Command sample is the app that the lab deploys: an HTTP server whose health,
// errors and speed can be switched from outside. See routes for what it serves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// finish is how long requests in flight may take after the drain.
const finish = 30 * time.Second

func main() {
	listen := flag.String("listen", ":8080", "`ADDRESS` to serve on")
	drain := flag.Duration("drain", 0, "how long to go on serving after SIGTERM")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	if err := run(ctx, *listen, *drain, logger); err != nil {
		logger.Error("cannot go on", "err", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then for the time of the drain, and then until
// the last request in flight is answered.
func run(ctx context.Context, address string, drain time.Duration, logger *slog.Logger) error {
	name, err := podName()
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	app := newApp(name, os.Getenv("START_READY") != "false")
	server := &http.Server{Handler: app.routes(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	logger.Info("serving", "pod", name, "address", l.Addr().String())

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	logger.Info("asked to stop", "pod", name, "drain", drain.String())
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-time.After(drain):
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finish)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("finish requests: %w", err), server.Close())
	}
	logger.Info("stopped", "pod", name, "requests", app.info().Requests)
	return nil
}

// podName returns the pod's name, which is also its hostname.
func podName() (string, error) {
	if name := os.Getenv("POD_NAME"); name != "" {
		return name, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the pod's name: %w", err)
	}
	return name, nil
}
