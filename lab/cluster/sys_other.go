//go:build !linux

package cluster

import (
	"errors"
	"os"
)

type fileID struct{}

// Off Linux the package compiles, so that tools can read it; Preflight says that nothing can run.
var errNotLinux = errors.New("the lab needs Linux")

func inNamespace(string, func() error) error { return errNotLinux }
func unmount(string) error                   { return errNotLinux }
func identify(string) (fileID, bool)         { return fileID{}, false }
func lockFile(*os.File) error                { return errNotLinux }
