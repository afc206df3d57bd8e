package fault

import "net"

// listener notes the connections of clients, so that a switch can cut them.
type listener struct {
	net.Listener
	proxy *Proxy
}

func (l *listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	c := &conn{Conn: raw, proxy: l.proxy, era: l.proxy.now}
	c.era.conns[c] = struct{}{}
	return c, nil
}

// conn is a client's connection, noted in the era in which it was made.
type conn struct {
	net.Conn
	proxy *Proxy
	era   *era
}

func (c *conn) Close() error {
	c.proxy.mu.Lock()
	if c.era == c.proxy.now {
		delete(c.era.conns, c)
	}
	c.proxy.mu.Unlock()
	return c.Conn.Close()
}
