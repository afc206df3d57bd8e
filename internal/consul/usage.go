package consul

import (
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Outcome is how a request to Consul ended, for those who count them.
type Outcome string

// The values of Outcome.
const (
	// Answered: with what was asked for, or that there is no such thing.
	Answered Outcome = "ok"
	// Denied: the token may not do this.
	Denied Outcome = "denied"
	// NoToken: there is no token, or Consul does not know it.
	NoToken Outcome = "no-token"
	// Throttled: Consul asked to slow down.
	Throttled Outcome = "throttled"
	// Failed: no answer, or an error of Consul.
	Failed Outcome = "error"
)

// Outcomes are all values of Outcome.
func Outcomes() []Outcome { return []Outcome{Answered, Denied, NoToken, Throttled, Failed} }

// Usage is what a client has met since it was made.
type Usage struct {
	Requests map[Outcome]uint64
	// Logins and LoginsFailed are zero where no auth method gives the token.
	Logins, LoginsFailed uint64
	// TokenExpires is zero if the token never does, or nobody says when.
	TokenExpires time.Time
}

// Usage tells what the client has met so far.
func (c *Client) Usage() Usage {
	u := Usage{Requests: c.tally.all()}
	if l, ok := c.token.(*login); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		u.Logins, u.LoginsFailed, u.TokenExpires = l.count, l.failures, l.expires
	}
	return u
}

// tally counts requests.
type tally struct {
	mu     sync.Mutex
	counts map[Outcome]uint64
}

func newTally() *tally { return &tally{counts: map[Outcome]uint64{}} }

func (t *tally) add(outcome Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[outcome]++
}

func (t *tally) all() map[Outcome]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.counts)
}

// outcomeOf is how an exchange ended. refusal is the answer's text if it is an
// error.
func outcomeOf(status int, refusal []byte, err error) Outcome {
	switch {
	case errors.Is(err, ErrDenied), errors.Is(err, errNoToken), isTokenUnknown(refusal): // the first of a login
		return NoToken
	case err != nil:
		return Failed
	case status < http.StatusBadRequest, status == http.StatusNotFound:
		return Answered
	case status == http.StatusForbidden, status == http.StatusUnauthorized, Refused(string(refusal)):
		return Denied
	case slowDown(status):
		return Throttled
	}
	return Failed
}
