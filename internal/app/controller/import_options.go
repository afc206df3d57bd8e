package controller

import (
	"io"

	"github.com/spf13/pflag"

	"fairway.dev/fairway/internal/app/process"
)

// ImportOptions are those of the importer.
type ImportOptions struct {
	Import bool
	// ImportNamespaces are those whose ConsulImports are looked at; empty is all.
	ImportNamespaces []string
	// ImportConnections is how many questions Consul may hold at a time.
	ImportConnections int
	// ImportMaxLossShare, from 0 to 1: see consulimport.Input.MaxShare.
	ImportMaxLossShare float64
}

// defaultImport leaves room for the other clients at a controller's address: Consul
// allows an address 200 connections.
func defaultImport() ImportOptions {
	return ImportOptions{ImportConnections: 100, ImportMaxLossShare: 0.5}
}

func (o *ImportOptions) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.Import, "import", o.Import, "make Services of what ConsulImports ask for")
	f.IntVar(&o.ImportConnections, "import-connections", o.ImportConnections, "how many services are watched in Consul at a time, with a connection each; of more each has its turn")
	f.Float64Var(&o.ImportMaxLossShare, "import-max-loss-share", o.ImportMaxLossShare, "largest share of the imported Services that may lose all endpoints within a minute; more are frozen")
	f.StringSliceVar(&o.ImportNamespaces, "import-namespaces", o.ImportNamespaces, "namespaces whose ConsulImports are looked at; empty is all")
}

// Validate names everything that is wrong.
func (o ImportOptions) Validate() error {
	var c process.Check
	c.That(o.ImportConnections > 0, "--import-connections %d: must be 1 or more", o.ImportConnections)
	c.That(o.ImportMaxLossShare >= 0 && o.ImportMaxLossShare <= 1, "--import-max-loss-share %v: must be from 0 to 1", o.ImportMaxLossShare)
	return c.Err()
}

// Imports tells whether a controller with these arguments imports services.
func Imports(args []string) bool { return switched(args, "import") }

// Exports tells whether a controller with these arguments publishes Services.
func Exports(args []string) bool { return switched(args, "export") }

// switched is the value of a flag, whatever the others are.
func switched(args []string, name string) bool {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.ParseErrorsAllowlist.UnknownFlags = true
	on := f.Bool(name, false, "")
	return f.Parse(args) == nil && *on
}
