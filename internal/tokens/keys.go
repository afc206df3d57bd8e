package tokens

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	refreshEvery = 10 * time.Minute
	fetchTimeout = 5 * time.Second
	firstRetry   = time.Second
	longestRetry = 30 * time.Second
	// askAgain is the shortest time between two questions that tokens with
	// unknown keys cause: whoever sends such must not make us ask all the time.
	askAgain = 5 * time.Second
)

// Published is what a cluster publishes of its tokens.
type Published struct {
	Issuer string          `json:"issuer"`
	Keys   json.RawMessage `json:"keys"` // a JSON Web Key Set
}

// Options of a Verifier.
type Options struct {
	// Node is the node whose pods may speak.
	Node string
	// Fetch asks the cluster.
	Fetch func(context.Context) (Published, error)
	// File keeps what was fetched last, so that a new process need not wait
	// for the API server. Empty: nothing is kept. Who can write it can make
	// tokens, so it must be the process's own.
	File string
	Log  *slog.Logger
}

// Verifier checks tokens. Make it with New; it fetches keys in Run, and when
// it meets a key that it does not know.
type Verifier struct {
	node  string
	fetch func(context.Context) (Published, error)
	file  string
	log   *slog.Logger

	fetching sync.Mutex // one fetch at a time
	tried    time.Time  // when the last one began

	mu     sync.Mutex
	issuer string
	keys   map[string]jose.JSONWebKey // by id
}

// New makes a Verifier with the keys that the file holds, if it does.
func New(o Options) (*Verifier, error) {
	if o.Node == "" || o.Fetch == nil || o.Log == nil {
		return nil, errors.New("token verifier: node, fetch and log are required")
	}
	v := &Verifier{node: o.Node, fetch: o.Fetch, file: o.File, log: o.Log}
	if o.File == "" {
		return v, nil
	}
	var kept Published
	data, err := os.ReadFile(o.File)
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err == nil {
		err = v.take(kept)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		o.Log.Warn("the file of signing keys is not usable", "file", o.File, "err", err)
	}
	return v, nil
}

// Len is the number of keys known.
func (v *Verifier) Len() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.keys)
}

// Run keeps the keys up to date until ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	wait, retry := time.Duration(0), firstRetry
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		v.fetching.Lock()
		err := v.refresh(ctx)
		v.fetching.Unlock()
		if err == nil {
			wait, retry = refreshEvery, firstRetry
			continue
		}
		if retry == firstRetry && ctx.Err() == nil {
			v.log.Warn("the cluster's signing keys could not be read; it is tried again", "known", v.Len(), "err", err)
		}
		wait, retry = retry, min(2*retry, longestRetry)
	}
}

// key is the issuer and the key of that id. A key that is not known may be a
// new one, so the cluster is asked.
func (v *Verifier) key(ctx context.Context, id string) (string, jose.JSONWebKey, error) {
	issuer, key, ok := v.known(id)
	if !ok {
		v.fetching.Lock()
		if time.Since(v.tried) >= askAgain {
			if err := v.refresh(ctx); err != nil {
				v.log.Debug("the cluster's signing keys could not be read", "err", err)
			}
		}
		v.fetching.Unlock()
		issuer, key, ok = v.known(id)
	}
	switch {
	case ok:
		return issuer, key, nil
	case issuer == "":
		return "", key, ErrNoKeys
	}
	return "", key, fmt.Errorf("%w: its key is not one of the cluster's", ErrRefused)
}

func (v *Verifier) known(id string) (string, jose.JSONWebKey, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	key, ok := v.keys[id]
	return v.issuer, key, ok
}

// refresh asks the cluster. The caller holds fetching.
func (v *Verifier) refresh(ctx context.Context) error {
	v.tried = time.Now()
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	published, err := v.fetch(ctx)
	if err != nil {
		return err
	}
	if err := v.take(published); err != nil {
		return err
	}
	if err := v.keep(published); err != nil {
		v.log.Warn("the signing keys could not be kept in their file", "file", v.file, "err", err)
	}
	return nil
}

// take puts keys into use. What is not usable changes nothing (I1).
func (v *Verifier) take(published Published) error {
	if published.Issuer == "" {
		return errors.New("the cluster names no issuer")
	}
	keys, err := parseKeys(published.Keys)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.issuer, v.keys = published.Issuer, keys
	return nil
}

// keep writes the file, whole or not at all.
func (v *Verifier) keep(published Published) error {
	if v.file == "" {
		return nil
	}
	data, err := json.Marshal(published)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(v.file), ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), v.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
