// Package gobuild runs "go build" the way this project wants it: static,
// stripped of paths, reproducible, and telling how far a long build is. The
// release image, the lab's images and the lab's servers are all built by it.
package gobuild

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "fairway.dev/fairway"

// Checkout is a working copy of this module and the Go toolchain used in it.
type Checkout struct {
	Root      string // folder of the main go.mod
	GoVersion string // such as go1.26.8
	OS, Arch  string // what the toolchain builds for
}

// FindCheckout returns the working copy that holds the current folder. The
// answer comes from the go command, for a program that is run by "go run" or
// "go test" has no other trace of where its source is.
func FindCheckout(ctx context.Context) (Checkout, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return Checkout{}, errors.New("the go command is not in PATH: install Go from https://go.dev/dl")
	}
	out, err := exec.CommandContext(ctx, "go", "env", "-json", "GOMOD", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return Checkout{}, fmt.Errorf("ask go for its environment: %w", withStderr(err))
	}
	var env struct{ GOMOD, GOVERSION, GOOS, GOARCH string }
	if err := json.Unmarshal(out, &env); err != nil {
		return Checkout{}, fmt.Errorf("read what go env answered: %w", err)
	}
	root, err := findRoot(env.GOMOD)
	if err != nil {
		return Checkout{}, err
	}
	return Checkout{Root: root, GoVersion: env.GOVERSION, OS: env.GOOS, Arch: env.GOARCH}, nil
}

// findRoot walks up from a go.mod to this module's own: the current folder may
// be inside one of the nested modules.
func findRoot(goMod string) (string, error) {
	outside := fmt.Errorf("the current folder is not inside a checkout of %s", module)
	if goMod == "" || goMod == os.DevNull {
		return "", outside
	}
	for dir := filepath.Dir(goMod); ; dir = filepath.Dir(dir) {
		if modulePath(filepath.Join(dir, "go.mod")) == module {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", outside
		}
	}
}

// modulePath returns the module that a go.mod declares, or "".
func modulePath(goMod string) string {
	file, err := os.Open(goMod)
	if err != nil {
		return ""
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if path, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}

// Commands returns the package patterns of the product's own binaries, one for
// each folder under cmd.
func (c Checkout) Commands() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(c.Root, "cmd"))
	if err != nil {
		return nil, fmt.Errorf("list the product's commands: %w", err)
	}
	var commands []string
	for _, entry := range entries {
		if entry.IsDir() {
			commands = append(commands, "./cmd/"+entry.Name())
		}
	}
	if len(commands) == 0 {
		return nil, fmt.Errorf("there is no command under %s", filepath.Join(c.Root, "cmd"))
	}
	return commands, nil
}

// withStderr adds what a failed command said, which exec keeps apart.
func withStderr(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return err
}
