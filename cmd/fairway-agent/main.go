// Command fairway-agent runs on every node, see package agent.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"fairway.dev/fairway/internal/app/agent"
)

// version is set by the release build.
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	if os.Getenv("GOGC") == "" {
		// One on every node, and at rest nearly always: its memory costs more than
		// the time that it takes to keep it small.
		debug.SetGCPercent(50)
	}
	// The first signal asks for a graceful stop; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	command := agent.Command()
	command.Version = version
	if err := command.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fairway-agent:", err)
		return 1
	}
	return 0
}
