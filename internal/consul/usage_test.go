package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
)

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		refusal string
		err     error
		want    Outcome
	}{
		{"an answer", http.StatusOK, "", nil, Answered},
		{"no such thing", http.StatusNotFound, "unknown service", nil, Answered},
		{"a right that is missing", http.StatusForbidden, "Permission denied: token lacks permission", nil, Denied},
		{"the same, from the servers", http.StatusInternalServerError, "rpc error: Permission denied", nil, Denied},
		{"a token that was revoked", http.StatusForbidden, "ACL not found", nil, NoToken},
		{"the same, from the servers", http.StatusInternalServerError, "rpc error: ACL not found", nil, NoToken},
		{"no token file yet", 0, "", errNoToken, NoToken},
		{"a login that is refused", 0, "", fmt.Errorf("log in: %w", &Error{Kind: ErrDenied}), NoToken},
		{"a login that nobody answers", 0, "", fmt.Errorf("log in: %w", &Error{Kind: ErrUnavailable}), Failed},
		{"too many requests", http.StatusTooManyRequests, "", nil, Throttled},
		{"no leader", http.StatusInternalServerError, "No cluster leader", nil, Failed},
		{"nobody there", 0, "", errors.New("connection refused"), Failed},
		{"too late", 0, "", context.DeadlineExceeded, Failed},
	} {
		if got := outcomeOf(c.status, []byte(c.refusal), c.err); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
