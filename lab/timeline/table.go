package timeline

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// Table shows the pods and, for each stage, the milliseconds since the pod was
// created ("-" where a stage was not reached).
func Table(pods []Pod) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "POD\tNODE\tCONTAINERS READY\tPASSING\tGATE OPEN\tREADY\tTERMINATING\tOUT\tGATE\n")
	for _, p := range pods {
		fmt.Fprintf(w, "%s\t%s", p.Name, p.Node)
		for _, s := range []Stage{ContainersReady, Passing, GateOpen, Ready, Terminating, Out} {
			if d, ok := p.Between(Created, s); ok {
				fmt.Fprintf(w, "\t%d ms", d.Milliseconds())
			} else {
				fmt.Fprint(w, "\t-")
			}
		}
		fmt.Fprintf(w, "\t%s\n", p.GateReason)
	}
	_ = w.Flush() // a strings.Builder cannot fail
	return b.String()
}
