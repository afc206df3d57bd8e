// Command fairway-reaper looks for Kubernetes clusters that are dead, see package
// reaper.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fairway.dev/fairway/internal/app/reaper"
)

// version is set by the release build.
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	// The first signal asks for a graceful stop; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	command := reaper.Command()
	command.Version = version
	if err := command.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fairway-reaper:", err)
		return 1
	}
	return 0
}
