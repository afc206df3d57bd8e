package gobuild

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	refreshTerminal = time.Second      // the line is drawn again in place
	refreshLog      = 10 * time.Second // a new line each time
)

// progress tells a person how far a build is.
type progress struct {
	out      io.Writer
	terminal bool
	name     string
	started  time.Time
	done     chan struct{}
	ended    sync.WaitGroup

	mu        sync.Mutex
	packages  int
	downloads int
}

// startProgress announces the build and keeps telling until stop is called.
func startProgress(out io.Writer, name string, usual time.Duration) *progress {
	if out == nil {
		out = io.Discard
	}
	p := &progress{out: out, terminal: isTerminal(out), name: name, started: time.Now(), done: make(chan struct{})}
	if usual > 0 {
		fmt.Fprintf(out, "building %s (from nothing usually %s on two cores)\n", name, round(usual))
	}
	refresh := refreshLog
	if p.terminal {
		refresh = refreshTerminal
	}
	p.ended.Go(func() { p.keepTelling(refresh) })
	return p
}

func (p *progress) keepTelling(refresh time.Duration) {
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		select {
		case <-p.done:
			return
		case now := <-ticker.C:
			if p.terminal {
				fmt.Fprintf(p.out, "\r\x1b[K  %s", p.line(now))
			} else {
				fmt.Fprintf(p.out, "  %s\n", p.line(now))
			}
		}
	}
}

func (p *progress) line(now time.Time) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	parts := []string{round(now.Sub(p.started))}
	if p.downloads > 0 {
		parts = append(parts, fmt.Sprintf("%d modules downloaded", p.downloads))
	}
	if p.packages > 0 {
		parts = append(parts, fmt.Sprintf("%d packages compiled", p.packages))
	}
	return p.name + ": " + strings.Join(parts, ", ")
}

func (p *progress) compiled() {
	p.mu.Lock()
	p.packages++
	p.mu.Unlock()
}

func (p *progress) downloaded() {
	p.mu.Lock()
	p.downloads++
	p.mu.Unlock()
}

// stop ends the telling with one last line, which a short build leaves out.
func (p *progress) stop(err error) {
	close(p.done)
	p.ended.Wait()
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	if now := time.Now(); err == nil && now.Sub(p.started) > refreshTerminal {
		fmt.Fprintf(p.out, "built %s\n", p.line(now))
	}
}

func round(d time.Duration) string {
	return d.Round(time.Second).String()
}

// isTerminal is true for a person's terminal. Any other character device, such
// as /dev/null, does no harm here.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
