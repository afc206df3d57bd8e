package consul

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// tokenSource is where the ACL token of a request comes from.
type tokenSource interface {
	// read returns the token to use now; empty means to send none.
	read(ctx context.Context) (string, error)
	// generation counts the different tokens so far; zero means none.
	generation() uint64
	// unknown tells that Consul does not know the token, or no longer.
	unknown(token string)
}

// errNoToken is what requests fail with before there is a token.
var errNoToken = errors.New("no usable ACL token")

// tokenFile reads a token file, if one is named, and counts its changes.
type tokenFile struct {
	file string

	mu    sync.Mutex
	token string
	count uint64
}

// read returns the current token. Once a token was read, a file that is
// missing or empty for a moment does not take it away.
func (s *tokenFile) read(context.Context) (string, error) {
	if s.file == "" {
		return "", nil
	}
	data, err := os.ReadFile(s.file)
	token := strings.TrimSpace(string(data))

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case token != "" && token != s.token:
		s.token = token
		s.count++
	case token == "" && s.token == "":
		if err == nil {
			err = fmt.Errorf("%s is empty", s.file)
		}
		return "", fmt.Errorf("%w: %w", errNoToken, err)
	}
	return s.token, nil
}

func (s *tokenFile) generation() uint64 {
	_, _ = s.read(context.Background()) // what is wrong is for the request to say
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// unknown does nothing: whoever owns the file puts another token there.
func (s *tokenFile) unknown(string) {}
