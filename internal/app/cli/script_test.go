package cli_test

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"fairway.dev/fairway/internal/app/cli"
)

func TestMain(m *testing.M) {
	run := func() {
		os.Exit(cli.Run(context.Background(), cli.Call{Args: os.Args, Out: os.Stdout, Err: os.Stderr, Version: "v1.2.3"}))
	}
	testscript.Main(m, map[string]func(){"fairway": run, "kubectl-fairway": run})
}

// Each script of testdata is a call as a person makes it. None of them reaches
// a cluster: what is found there is tested elsewhere.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
