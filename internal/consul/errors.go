package consul

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/consul/api"
)

// The errors that leave the Consul adapters. Every error of theirs is one of
// these for errors.Is, or the context's own.
var (
	// ErrUnavailable: no usable answer came. Consul, or the servers behind the
	// agent, cannot be reached, have no leader, or ask to slow down.
	ErrUnavailable = errors.New("no usable answer from Consul")
	// ErrThrottled is an ErrUnavailable: Consul, or this server of it, asks to
	// come back later (429, 503).
	ErrThrottled = fmt.Errorf("%w: it asks to come back later", ErrUnavailable)
	// ErrDenied: the token may not do this, does not exist, or cannot be read.
	ErrDenied = errors.New("denied by Consul's ACLs")
	// ErrInvalid: Consul will never accept the request as it is.
	ErrInvalid = errors.New("refused by Consul as invalid")
	// ErrConflict: what was to be written was changed by somebody else since it
	// was read.
	ErrConflict = errors.New("changed in Consul by somebody else meanwhile")
	// ErrNotFound: what the request is about does not exist.
	ErrNotFound = errors.New("not known to Consul")
	// ErrFiltered: the answer is incomplete, because the token may not see all
	// of it. What is missing from it may well exist.
	ErrFiltered = errors.New("the answer was filtered by Consul's ACLs")
	// ErrUnusable: an answer came that is not Consul's, or not a whole one.
	ErrUnusable = errors.New("the answer is not a usable one of Consul")
)

// Error is a failed exchange with Consul: which kind of failure, and the
// client's own error.
type Error struct {
	Kind error // one of the Err values
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Kind.Error()
	}
	return e.Kind.Error() + ": " + e.Err.Error()
}

// Unwrap lets errors.Is find both the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// Unusable is an answer that is not a usable one, and says why.
func Unusable(format string, args ...any) error {
	return &Error{Kind: ErrUnusable, Err: fmt.Errorf(format, args...)}
}

// Classify gives an error of the API client its kind. Nil stays nil.
func Classify(err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*Error](err); known {
		return err
	}
	return &Error{Kind: kindOf(err), Err: err}
}

func kindOf(err error) error {
	if errors.Is(err, errNoToken) {
		return ErrDenied
	}
	var status api.StatusError
	var transport *url.Error
	switch {
	case errors.As(err, &transport), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return ErrUnavailable
	case !errors.As(err, &status):
		return ErrUnusable // an answer came, and could not be decoded
	case status.Code == http.StatusForbidden, status.Code == http.StatusUnauthorized:
		return ErrDenied
	case status.Code == http.StatusNotFound:
		return ErrNotFound
	case slowDown(status.Code):
		return ErrThrottled
	case status.Code >= 400 && status.Code < 500:
		return ErrInvalid
	// The servers' own refusals reach HTTP clients as 500 with the reason in
	// the text.
	case Refused(status.Body):
		return ErrDenied
	}
	return ErrUnavailable
}

// slowDown tells whether a server asks to come back later or to ask another.
// It answers 503 to what only the leader can do and must do less of.
func slowDown(code int) bool {
	return code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable
}

// leaderless tells whether a server knows no leader that it could ask, others
// may: one that was cut off finds back to them up to half a minute later.
func leaderless(code int, refusal []byte) bool {
	return code == http.StatusInternalServerError && bytes.Contains(refusal, []byte("No cluster leader"))
}

// tokenUnknown is in every answer to a token that does not exist.
const tokenUnknown = "ACL not found"

// Refused tells whether the words are those in which Consul's ACLs refuse.
func Refused(words string) bool {
	return strings.Contains(words, "Permission denied") || strings.Contains(words, tokenUnknown)
}

// Proven says why an answer of the servers is not the leader's own and whole,
// or nothing if it is. It must have been asked for with RequireConsistent.
func Proven(meta *api.QueryMeta) error {
	switch {
	case meta.ResultsFilteredByACLs:
		return &Error{Kind: ErrFiltered}
	case !meta.KnownLeader || meta.LastContact > 0 || meta.LastIndex == 0:
		return &Error{Kind: ErrUnavailable, Err: errors.New("not a consistent answer")}
	}
	return nil
}

// Reason says in a few words why an exchange failed. The words stay the same
// as long as the cause does, so they can stand in a status without making it
// change all the time. What only a user can repair is quoted from Consul.
func Reason(err error) string {
	for _, kind := range []error{ErrFiltered, ErrUnusable, ErrNotFound, ErrConflict, ErrThrottled} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	var status api.StatusError
	for _, kind := range []error{ErrDenied, ErrInvalid} {
		if !errors.Is(err, kind) {
			continue
		}
		if errors.As(err, &status) && status.Body != "" && len(status.Body) <= 300 {
			return kind.Error() + ": " + strings.TrimSpace(status.Body)
		}
		return kind.Error()
	}
	return ErrUnavailable.Error()
}
