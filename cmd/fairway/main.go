// Command fairway is the user's shell, see package cli. Under the name
// kubectl-fairway it is a plugin of kubectl.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"fairway.dev/fairway/internal/app/cli"
)

// version is set by the release build.
var version = "dev"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Run(ctx, cli.Call{Args: os.Args, Out: os.Stdout, Err: os.Stderr, Version: version})
}
