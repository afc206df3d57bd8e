package controller

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"fairway.dev/fairway/internal/export"
)

// Policy is what a controller with these arguments publishes, and whether it
// publishes Services at all. Arguments about other things are passed over. Those of
// instead take the place of the ones of their names, and must all be about this.
func Policy(args, instead []string) (policy export.Policy, exporting bool, err error) {
	o := DefaultExport()
	cluster := ""
	read := func(args []string, others bool) error {
		f := pflag.NewFlagSet("", pflag.ContinueOnError) // what the options hold are its defaults
		f.SetOutput(io.Discard)
		f.ParseErrorsAllowlist.UnknownFlags = others
		o.AddFlags(f)
		f.StringVar(&cluster, "cluster-id", cluster, "")
		if err := f.Parse(args); err != nil || others || f.NArg() == 0 {
			return err
		}
		return fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if err := read(args, true); err != nil {
		return export.Policy{}, false, fmt.Errorf("read the arguments of %s: %w", userAgent, err)
	}
	if err := read(instead, false); err != nil {
		return export.Policy{}, false, fmt.Errorf("flags of %s to publish Services: %w", userAgent, err)
	}
	exporting, o.Export = o.Export, true // so that all is checked
	if err := o.Validate(); err != nil {
		return export.Policy{}, false, err
	}
	return o.policy(cluster), exporting, nil
}
