package process

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPulse(t *testing.T) {
	p := NewPulse("publisher", time.Minute)
	p.Beat()
	if why := p.Stuck(time.Now()); why != "" {
		t.Errorf("a loop at work: %q", why)
	}
	if why := p.Stuck(time.Now().Add(time.Minute + time.Second)); !strings.Contains(why, "publisher") {
		t.Errorf("a loop that hangs: %q", why)
	}
	p.Rest()
	if why := p.Stuck(time.Now().Add(time.Hour)); why != "" {
		t.Errorf("a loop that waits for work: %q", why)
	}
}

func TestPartsThatEnd(t *testing.T) {
	boom := errors.New("boom")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		returns error
		fails   bool
	}{
		"early, without an error": {t.Context(), nil, true},
		"early, with one":         {t.Context(), boom, true},
		"when asked to":           {ended, nil, false},
		"when asked to, with one": {ended, context.Canceled, false},
	} {
		err := Part{Name: "x", Do: func(context.Context) error { return c.returns }}.Run(c.ctx)
		if (err != nil) != c.fails || (errors.Is(c.returns, boom) && !errors.Is(err, boom)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStopStackDoesEveryStepInReverse(t *testing.T) {
	boom := errors.New("boom")
	var done []string
	stack := StopStack{Log: slog.New(slog.DiscardHandler)}
	for _, name := range []string{"first", "second", "third"} {
		stack.Push(Step{Name: name, Within: time.Millisecond, Do: func(ctx context.Context) error {
			done = append(done, name)
			if name == "second" {
				<-ctx.Done() // hangs, and is bounded
				return boom
			}
			return nil
		}})
	}
	if err := stack.Run(t.Context()); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(done, []string{"third", "second", "first"}) {
		t.Errorf("done: %v", done)
	}
}
