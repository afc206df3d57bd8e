package controller

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"fairway.dev/fairway/internal/export"
)

// Policy is what a controller with these arguments publishes, and whether it
// publishes Services at all. Arguments about other things are passed over.
func Policy(args []string) (policy export.Policy, exporting bool, err error) {
	o := DefaultExport()
	cluster := ""
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.ParseErrorsAllowlist.UnknownFlags = true
	o.AddFlags(f)
	f.StringVar(&cluster, "cluster-id", "", "")
	if err := f.Parse(args); err != nil {
		return export.Policy{}, false, fmt.Errorf("read the arguments of %s: %w", userAgent, err)
	}
	exporting, o.Export = o.Export, true // so that all is checked
	if err := o.Validate(); err != nil {
		return export.Policy{}, false, err
	}
	return o.policy(cluster), exporting, nil
}
