package consul

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	dialTimeout = 3 * time.Second
	// avoidFor is how long an address that failed is tried after the others.
	avoidFor = 30 * time.Second
)

// dialer connects to a host name that may stand for several servers, as the
// name of the servers' Service does. It takes them in random order, so that
// the clients of a cluster spread, and after the others those that failed.
type dialer struct {
	net    net.Dialer
	lookup func(ctx context.Context, host string) ([]string, error)

	mu     sync.Mutex
	failed map[string]time.Time // by address with port
}

func newDialer() *dialer {
	return &dialer{
		net:    net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second},
		lookup: net.DefaultResolver.LookupHost,
		failed: map[string]time.Time{},
	}
}

// dial has the form of http.Transport.DialContext.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ips, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, address := range d.order(ips, port, time.Now()) {
		conn, err := d.net.DialContext(ctx, network, address)
		if err == nil {
			return conn, nil
		}
		d.avoid(address)
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// order is the order in which to try the addresses.
func (d *dialer) order(ips []string, port string, now time.Time) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	addresses := make([]string, len(ips))
	for i, ip := range ips {
		addresses[i] = net.JoinHostPort(ip, port)
	}
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	for address, at := range d.failed {
		if now.Sub(at) > avoidFor {
			delete(d.failed, address)
		}
	}
	slices.SortStableFunc(addresses, func(a, b string) int { return d.failed[a].Compare(d.failed[b]) })
	return addresses
}

// avoid notes that the address has failed.
func (d *dialer) avoid(address string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[address] = time.Now()
}
