// Command consul-k8s is the catalog sync of consul-k8s: its control plane with that
// one subcommand. The others would bring all the rest of it along.
package main

import (
	"log"
	"os"

	synccatalog "github.com/hashicorp/consul-k8s/control-plane/subcommand/sync-catalog"
	"github.com/hashicorp/consul-k8s/control-plane/version"
	"github.com/mitchellh/cli"
)

func main() {
	program := cli.NewCLI("consul-k8s-control-plane", version.GetHumanVersion())
	program.Args = os.Args[1:]
	program.Commands = map[string]cli.CommandFactory{
		"sync-catalog": func() (cli.Command, error) {
			return &synccatalog.Command{UI: &cli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr}}, nil
		},
	}
	code, err := program.Run()
	if err != nil {
		log.Println(err)
	}
	os.Exit(code)
}
