package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

// ControlHandler serves GET /mode, which answers the mode, POST /mode, which
// switches to the mode in the body and answers when the switch is done, and
// GET /met, which answers how many requests have come since the last switch.
func (p *Proxy) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /mode", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, p.Mode())
	})
	mux.HandleFunc("GET /met", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, p.Met())
	})
	mux.HandleFunc("POST /mode", func(w http.ResponseWriter, r *http.Request) {
		name, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 100))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		mode, err := ParseMode(strings.TrimSpace(string(name)))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.SetMode(mode)
		fmt.Fprintln(w, mode)
	})
	return mux
}

// ListenControl opens the unix socket of a control handler. It takes over the
// socket of a proxy that was killed, but not that of one that runs.
func ListenControl(ctx context.Context, path string) (net.Listener, error) {
	if _, err := GetMode(ctx, path); err == nil {
		return nil, fmt.Errorf("another fault proxy serves %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove a stale control socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return l, nil
}

// SetMode switches the proxy with the given control socket. When it returns,
// the connections of the proxy's clients are cut.
func SetMode(ctx context.Context, socket string, mode Mode) error {
	_, err := control(ctx, socket, http.MethodPost, "mode", string(mode))
	if err != nil {
		return fmt.Errorf("switch the fault proxy at %s to %s: %w", socket, mode, err)
	}
	return nil
}

// GetMode asks the proxy with the given control socket for its mode. That it
// answers also says that the proxy's listeners are open.
func GetMode(ctx context.Context, socket string) (Mode, error) {
	name, err := control(ctx, socket, http.MethodGet, "mode", "")
	if err != nil {
		return "", fmt.Errorf("ask the fault proxy at %s for its mode: %w", socket, err)
	}
	return ParseMode(name)
}

// Met asks the proxy with the given control socket how many requests have come
// since the last switch of its mode.
func Met(ctx context.Context, socket string) (int, error) {
	count, err := control(ctx, socket, http.MethodGet, "met", "")
	if err != nil {
		return 0, fmt.Errorf("ask the fault proxy at %s for its requests: %w", socket, err)
	}
	return strconv.Atoi(count)
}

func control(ctx context.Context, socket, method, path, body string) (string, error) {
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://control/"+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(answer))
	if response.StatusCode != http.StatusOK {
		return "", errors.New(text)
	}
	return text, nil
}
