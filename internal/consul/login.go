package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// loginTimeout bounds a login, so that it leaves the request that needs it
	// some of its own time.
	loginTimeout = 5 * time.Second
	// loginRetry is the shortest time between two logins. It doubles with each
	// that fails, up to longestLoginRetry: many agents may have the same trouble,
	// and it is the same few servers that refuse them all.
	loginRetry        = time.Second
	longestLoginRetry = 30 * time.Second
	// loginSettles is how long a server may not know a token that another has
	// just made. A token of that age is not given up for that.
	loginSettles = 5 * time.Second
)

// login is a token made by an auth method of Consul in exchange for a bearer
// token, such as that of a Kubernetes service account.
//
// It needs no goroutine: a request that comes when two thirds of the token's
// life are over makes the next one. The old token is left to expire: a client
// agent may still be using it for what was registered with it.
type login struct {
	client *api.Client // its requests carry no token
	method string
	// bearerFile is read for every login: bearers are rotated.
	bearerFile string

	turn chan struct{} // holds one value while somebody logs in

	mu    sync.Mutex
	token string
	count uint64
	// failures counts the logins that gave no token.
	failures uint64
	made     time.Time
	renewAt  time.Time // zero if the token never expires
	expires  time.Time
	tryAt    time.Time // no login before
	inARow   int       // logins that failed since one succeeded
	failed   error     // of the last login
}

func newLogin(client *api.Client, method, bearerFile string) *login {
	return &login{client: client, method: method, bearerFile: bearerFile, turn: make(chan struct{}, 1)}
}

// answer is what a request is told.
type answer struct {
	token string
	err   error
}

// read returns a token that is good now, and logs in if there is none or it is
// time to. As long as the old token is good, a failed login is no error.
func (l *login) read(ctx context.Context) (string, error) {
	if a, ok := l.standing(time.Now()); ok {
		return a.token, a.err
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if a, ok := l.standing(time.Now()); ok {
		return a.token, a.err // somebody else has logged in meanwhile
	}
	token, err := l.exchange(ctx)
	a := l.settle(token, err, time.Now())
	return a.token, a.err
}

// standing is the answer without a login, unless one is due.
func (l *login) standing(now time.Time) (answer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.token != "" && (l.renewAt.IsZero() || now.Before(l.renewAt)):
		return answer{token: l.token}, true
	case !now.Before(l.tryAt):
		return answer{}, false
	}
	return l.fallback(now), true
}

// fallback is the answer while no login succeeds: the old token for as long as
// it is good, then why there is none.
func (l *login) fallback(now time.Time) answer {
	if l.token != "" && (l.expires.IsZero() || now.Before(l.expires)) {
		return answer{token: l.token}
	}
	return answer{err: cmp.Or(l.failed, error(&Error{Kind: ErrDenied, Err: errNoToken}))}
}

// exchange gives the bearer for a token.
func (l *login) exchange(ctx context.Context) (*api.ACLToken, error) {
	bearer, err := os.ReadFile(l.bearerFile)
	if err != nil {
		return nil, &Error{Kind: ErrDenied, Err: fmt.Errorf("%w: %w", errNoToken, err)}
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	token, _, err := l.client.ACL().Login(&api.ACLLoginParams{
		AuthMethod:  l.method,
		BearerToken: strings.TrimSpace(string(bearer)),
	}, (&api.WriteOptions{}).WithContext(ctx))
	var status api.StatusError
	switch {
	case err == nil:
	case errors.As(err, &status) && status.Code == http.StatusInternalServerError && !strings.Contains(status.Body, "leader"):
		// So the servers say that they do not take the bearer.
		return nil, &Error{Kind: ErrDenied, Err: err}
	default:
		return nil, Classify(err)
	}
	if token.SecretID == "" {
		return nil, Unusable("a login without a token")
	}
	return token, nil
}

// settle takes in how a login ended.
func (l *login) settle(token *api.ACLToken, err error, now time.Time) answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tryAt = now.Add(loginRetry)
	if err != nil {
		l.tryAt = now.Add(min(longestLoginRetry, loginRetry<<min(l.inARow, 10)))
		l.inARow++
		l.failures++
		l.failed = fmt.Errorf("log in with auth method %q: %w", l.method, err)
		return l.fallback(now)
	}
	l.token, l.made, l.failed, l.inARow = token.SecretID, now, nil, 0
	l.count++
	l.renewAt, l.expires = time.Time{}, time.Time{}
	if token.ExpirationTime != nil {
		l.expires = *token.ExpirationTime
		l.renewAt = now.Add(l.expires.Sub(now) * 2 / 3)
	}
	return answer{token: l.token}
}

func (l *login) generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// unknown gives the token up: it expired early, or somebody deleted it.
func (l *login) unknown(token string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if token == l.token && time.Since(l.made) > loginSettles {
		l.token = ""
	}
}

// held tells whether there is a token to log out.
func (l *login) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token != ""
}
