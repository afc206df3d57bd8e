// Package debian installs the Debian packages that the lab and the tests need
// and that no Go module provides.
package debian

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// errorLines is how many of apt-get's last lines an error carries.
const errorLines = 15

// ForLab returns the packages that a lab needs.
func ForLab() []string {
	return []string{"runc", "containernetworking-plugins", "iproute2", "nftables", "conntrack", "kmod", "mount", "util-linux"}
}

// ForRace returns the packages that "go test -race" needs.
func ForRace() []string { return []string{"gcc", "libc6-dev"} }

// purpose says why a package is wanted, for the person whose machine it is.
func purpose(name string) string {
	switch name {
	case "runc":
		return "runs the pods' containers"
	case "containernetworking-plugins":
		return "gives pods their addresses"
	case "iproute2":
		return "makes the hosts' network namespaces and links"
	case "nftables":
		return "kube-proxy's rules and network partitions"
	case "conntrack":
		return "kube-proxy's cleaning of old connections"
	case "kmod":
		return "loads kernel modules for bridges and overlays"
	case "mount":
		return "mounts and unmounts pods' volumes"
	case "util-linux":
		return "nsenter, which starts programs inside a host"
	case "gcc", "libc6-dev":
		return "the race detector of go test"
	}
	return "asked for"
}

// Ensure installs those of the packages that are missing, and says so first.
// It asks dpkg once and does nothing more if none is missing. None of the
// packages named in this package brings a service that starts by itself.
func Ensure(ctx context.Context, out io.Writer, packages ...string) error {
	return system{out: out, root: os.Geteuid() == 0}.ensure(ctx, packages)
}

// system is the machine that packages are installed on.
type system struct {
	out  io.Writer
	root bool // true if apt-get needs no sudo
}

func (s system) ensure(ctx context.Context, packages []string) error {
	missing, err := s.missing(ctx, packages)
	if err != nil || len(missing) == 0 {
		return err
	}
	fmt.Fprintln(s.out, "installing Debian packages:")
	for _, name := range missing {
		fmt.Fprintf(s.out, "  %-28s %s\n", name, purpose(name))
	}
	prefix, err := s.asRoot(ctx)
	if err != nil {
		return fmt.Errorf("%w: install them yourself with: apt-get install %s", err, strings.Join(missing, " "))
	}
	install := slices.Concat(prefix, aptGet("install", "--no-install-recommends"), missing)
	// Package lists may be absent, as in a container, or name versions that the
	// mirror no longer has. Fetching them takes longer than a try without.
	if s.run(ctx, install) == nil {
		return nil
	}
	if err := s.run(ctx, slices.Concat(prefix, aptGet("update"))); err != nil {
		return fmt.Errorf("update the list of Debian packages: %w", err)
	}
	if err := s.run(ctx, install); err != nil {
		return fmt.Errorf("install Debian packages: %w", err)
	}
	return nil
}

// missing returns the packages that are not installed, in the order given.
func (s system) missing(ctx context.Context, packages []string) ([]string, error) {
	if _, err := exec.LookPath("dpkg-query"); err != nil {
		return nil, fmt.Errorf("this is no Debian-like system (dpkg-query is not there): install what provides %s and use a Debian 12 machine if in doubt",
			strings.Join(packages, ", "))
	}
	args := append([]string{"--show", "--showformat=${Package} ${db:Status-Status}\\n"}, packages...)
	cmd := exec.CommandContext(ctx, "dpkg-query", args...)
	said, err := cmd.Output()
	// Exit code 1 says that one of the packages was never heard of.
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1) {
		return nil, fmt.Errorf("ask dpkg which packages are installed: %w", err)
	}
	installed := map[string]bool{}
	for lines := bufio.NewScanner(bytes.NewReader(said)); lines.Scan(); {
		if name, ok := strings.CutSuffix(lines.Text(), " installed"); ok {
			installed[name] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(packages), func(name string) bool { return installed[name] }), nil
}

// asRoot returns the words to put before a command that only root may run.
func (s system) asRoot(ctx context.Context) ([]string, error) {
	if s.root {
		return nil, nil
	}
	if _, err := exec.LookPath("sudo"); err != nil {
		return nil, errors.New("this takes root, and there is no sudo")
	}
	if exec.CommandContext(ctx, "sudo", "-n", "true").Run() == nil {
		return []string{"sudo", "-n"}, nil
	}
	if info, err := os.Stdin.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil, errors.New("this takes root, and sudo asks for a password but there is no terminal")
	}
	return []string{"sudo"}, nil
}

func aptGet(args ...string) []string {
	return append([]string{"env", "DEBIAN_FRONTEND=noninteractive",
		"apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120"}, args...)
}

// run runs a command. Its error carries the last lines that the command said.
func (s system) run(ctx context.Context, words []string) error {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stdin = os.Stdin // for sudo's password
	said, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, strings.Join(lines[max(0, len(lines)-errorLines):], "\n"))
}
