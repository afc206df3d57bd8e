package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestComplaints: what a user meets when something is missing is a sentence that names it.
func TestComplaints(t *testing.T) {
	for name, tc := range map[string]struct{ line, want string }{
		"no such lab":            {"--name nolab kubectl -n kube-system get pods", "no such lab"},
		"flags of other program": {"exec --name nolab n1 ls -l --all", "no such lab"},
		"name of a lab":          {"up --name My-Lab", `lab name "My-Lab"`},
		"version":                {"up --kubernetes 1.2", `kubernetes "1.2"`},
		"nodes":                  {"up --nodes 0", "0 nodes"},
		"join no lab":            {"up --join nolab", "join lab nolab"},
		"join itself":            {"up --name a --join a", "cannot join itself"},
		"join with agents":       {"up --join nolab --consul-agents", "cannot have Consul agents"},
		"fault without target":   {"fault kill --name nolab", "accepts 1 arg(s)"},
		"fault on no lab":        {"fault cut n1 --name nolab", "no such lab"},
		"host for exec":          {"exec --name nolab", "requires at least 1 arg(s)"},
		"unknown command":        {"frob", `unknown command "frob"`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := newCommand()
			var out bytes.Buffer
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			cmd.SetArgs(strings.Fields(tc.line))
			err := cmd.ExecuteContext(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("lab %s: %v, want an error with %q", tc.line, err, tc.want)
			}
			if out.Len() > 0 {
				t.Errorf("lab %s prints %q", tc.line, out.String())
			}
		})
	}
}
