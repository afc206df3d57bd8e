package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// pollEvery is how often a condition is looked at where nothing announces it.
const pollEvery = 50 * time.Millisecond

// await returns as soon as ready does without error, or when ctx ends, with what was missing last: that
// its time was up tells nobody anything. An error that wraps errFatal ends the wait at once.
func await(ctx context.Context, what string, ready func(context.Context) error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	begin := time.Now()
	var missing error
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || missing == nil {
			missing = err
		}
		if errors.Is(err, errFatal) {
			return fmt.Errorf("wait for %s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: not so after %s: %w", what, time.Since(begin).Round(time.Millisecond), missing)
		case <-tick.C:
		}
	}
}

// errFatal marks what no further waiting will mend.
var errFatal = errors.New("cannot recover")

// awaitServers is await for something that the given processes bring about together. If one of them
// ends meanwhile, or time runs out, the error shows the end of its log, or of all their logs.
func (c *Cluster) awaitServers(ctx context.Context, what string, servers []*Process, ready func(context.Context) error) error {
	suspects := servers
	err := await(ctx, what, func(ctx context.Context) error {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		for _, p := range servers {
			if !p.Alive() {
				suspects = []*Process{p}
				return fmt.Errorf("%s has ended: %w", p.ID(), errFatal)
			}
		}
		return err
	})
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	for _, p := range suspects {
		err = fmt.Errorf("%w\n--- end of %s\n%s", err, c.Log(p), c.tail(p, 15))
	}
	return err
}

// run runs a command of the machine and returns what it printed. If it fails, the error says what it
// complained about.
func run(ctx context.Context, name string, args ...string) (string, error) {
	return runCmd(exec.CommandContext(ctx, name, args...))
}

func runInput(ctx context.Context, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	_, err := runCmd(cmd)
	return err
}

func runCmd(cmd *exec.Cmd) (string, error) {
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(complaints.String()))
	}
	return out.String(), nil
}
