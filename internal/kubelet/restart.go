package kubelet

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// HealthAddress is where a kubelet answers about its health, to its own node
// alone and without login, unless it is told otherwise (healthzBindAddress).
const HealthAddress = "127.0.0.1:10248"

const (
	// askEvery is how often a kubelet is looked for that does not answer.
	askEvery   = time.Second
	askTimeout = 5 * time.Second
)

// WatchRestarts calls restarted whenever the kubelet that answers at address
// goes away, and when it is back, until ctx ends. It asks once and keeps the
// connection, which the kubelet closes only by ending; so nothing is sent at
// rest. Where no kubelet answers, nothing is called.
func WatchRestarts(ctx context.Context, address string, restarted func()) error {
	seen := false
	for ctx.Err() == nil {
		if conn, err := greet(ctx, address); err == nil {
			if seen {
				restarted() // it is back
			}
			seen = true
			awaitEnd(ctx, conn)
			if ctx.Err() == nil {
				restarted()
			}
		}
		timer := time.NewTimer(askEvery)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return ctx.Err()
}

// greet returns a connection over which the kubelet has answered.
func greet(ctx context.Context, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: askTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := ask(ctx, conn, address); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func ask(ctx context.Context, conn net.Conn, address string) error {
	if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/healthz", nil)
	if err != nil {
		return err
	}
	if err := request.Write(conn); err != nil {
		return fmt.Errorf("ask the kubelet for its health: %w", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return fmt.Errorf("ask the kubelet for its health: %w", err)
	}
	defer response.Body.Close()
	// Any answer is a kubelet that runs, be it in good health or not. It is read
	// to its end, so that all that can follow on the connection is its own.
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return fmt.Errorf("read the kubelet's health: %w", err)
	}
	return conn.SetDeadline(time.Time{})
}

// awaitEnd returns when the other end has closed the connection.
func awaitEnd(ctx context.Context, conn net.Conn) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	_, _ = conn.Read(make([]byte, 1))
}
