package gobuild

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// errorLines is how many of the compiler's last lines an error carries.
const errorLines = 15

// Build is one run of "go build".
type Build struct {
	Name     string   // what is built, for people
	Dir      string   // folder of the module
	Packages []string // packages, or the word tool
	Out      string   // folder that receives the binaries; made if missing
	Tags     string   // build tags, comma separated
	Stamp    []string // NAME=VALUE, string variables to set in the linker
	Arch     string   // "" for the toolchain's own
	// Usual is how long a build from nothing takes on two cores. It is told
	// to the user at the start; 0 for a build that is too short to mention.
	Usual time.Duration
	Log   io.Writer // progress for people; nil for none
}

// args returns the arguments of the go command. Whatever is changed here makes
// the Go build cache of all large servers worthless.
func (b Build) args() []string {
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-o", b.Out + string(filepath.Separator)}
	if b.Tags != "" {
		args = append(args, "-tags", b.Tags)
	}
	return append(append(args, "-ldflags", b.linkerFlags()), b.Packages...)
}

func (b Build) linkerFlags() string {
	flags := []string{"-s", "-w"}
	for _, stamp := range b.Stamp {
		flags = append(flags, "-X", stamp)
	}
	return strings.Join(flags, " ")
}

// Inputs names everything but the source that decides what the build yields.
func (b Build) Inputs() string {
	return strings.Join([]string{b.Tags, b.linkerFlags(), b.Arch, strings.Join(b.Packages, " ")}, "\n")
}

// Run builds. If ctx ends, so does the build.
func (b Build) Run(ctx context.Context) error {
	if err := os.MkdirAll(b.Out, 0o755); err != nil {
		return fmt.Errorf("build %s: %w", b.Name, err)
	}
	cmd := exec.CommandContext(ctx, "go", b.args()...)
	cmd.Dir = b.Dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	if b.Arch != "" {
		cmd.Env = append(cmd.Env, "GOARCH="+b.Arch)
	}
	// The go command cleans up its work folder when it is interrupted.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second

	stderr, said := io.Pipe()
	cmd.Stderr = said
	show := startProgress(b.Log, b.Name, b.Usual)
	read := make(chan []string)
	go func() { read <- watch(stderr, show) }()
	err := cmd.Run()
	said.Close()
	last := <-read
	show.stop(err)
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", b.Name, context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", b.Name, err, strings.Join(last, "\n"))
	}
	return nil
}

// watch reads what "go build -v" says until it ends: it reports each package
// and download as progress and returns the last lines that are neither.
func watch(stderr io.Reader, show *progress) (last []string) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			show.downloaded()
		case !strings.ContainsAny(line, " \t:"): // an import path on its own
			show.compiled()
		default:
			last = append(last, line)
			last = last[max(0, len(last)-errorLines):]
		}
	}
	// A line that is too long must not block the compiler.
	_, _ = io.Copy(io.Discard, stderr)
	return last
}
