// Package process is what Fairway's long-running processes have in common: parts
// that run as long as the process does, what is done at the end, probes that say
// whether the loops turn, and how Consul and Kubernetes are reached.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Part is something that runs as long as the process does.
type Part struct {
	Name string
	Do   func(ctx context.Context) error
}

// Run runs the part until ctx ends. A part that returns before is an
// error even if it returns none: without it the process would do half its work
// and look healthy.
func (p Part) Run(ctx context.Context) error {
	err := p.Do(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return fmt.Errorf("%s ended by itself", p.Name)
	}
	return fmt.Errorf("%s: %w", p.Name, err)
}

// Step is one thing to do at the end, within a time.
type Step struct {
	Name   string
	Within time.Duration
	Do     func(ctx context.Context) error
}

// StopStack is what to do at the end, in the reverse order of its pushes.
type StopStack struct {
	Log   *slog.Logger
	steps []Step
}

// Push puts a step before those that are there.
func (s *StopStack) Push(step Step) { s.steps = append(s.steps, step) }

// Run does every step, also if one before it failed.
func (s *StopStack) Run(ctx context.Context) error {
	var errs []error
	for _, step := range slices.Backward(s.steps) {
		start := time.Now()
		bounded, cancel := context.WithTimeout(ctx, step.Within)
		err := step.Do(bounded)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("stop: %s: %w", step.Name, err))
		}
		s.Log.Debug("stop step done", "step", step.Name, "took", time.Since(start).String())
	}
	return errors.Join(errs...)
}
