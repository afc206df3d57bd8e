// Command fairway-controller runs as two replicas of which one leads, see package
// controller.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"fairway.dev/fairway/internal/app/controller"
)

// version is set by the release build.
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	// The first signal asks for a graceful stop; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	command := controller.Command()
	command.Version = version
	if err := command.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fairway-controller:", err)
		return 1
	}
	return 0
}
