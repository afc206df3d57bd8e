package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// part is something that runs as long as the process does.
type part struct {
	name string
	run  func(ctx context.Context) error
}

// runUntil runs the part until ctx ends. A part that returns before is an
// error even if it returns none: without it the process would do half its work
// and look healthy.
func (p part) runUntil(ctx context.Context) error {
	err := p.run(ctx)
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return fmt.Errorf("%s ended by itself", p.name)
	}
	return fmt.Errorf("%s: %w", p.name, err)
}

// step is one thing to do at the end, within a time.
type step struct {
	name   string
	within time.Duration
	do     func(ctx context.Context) error
}

// stopStack is what to do at the end, in the reverse order of its pushes.
type stopStack struct {
	log   *slog.Logger
	steps []step
}

func (s *stopStack) push(step step) { s.steps = append(s.steps, step) }

// run does every step, also if one before it failed.
func (s *stopStack) run(ctx context.Context) error {
	var errs []error
	for _, step := range slices.Backward(s.steps) {
		start := time.Now()
		bounded, cancel := context.WithTimeout(ctx, step.within)
		err := step.do(bounded)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("stop: %s: %w", step.name, err))
		}
		s.log.Debug("stop step done", "step", step.name, "took", time.Since(start).String())
	}
	return errors.Join(errs...)
}
