package cluster

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScripts(t *testing.T) {
	lab := Default("lab")
	hosts, joined := lab.hosts(), Joining("other", "lab").hosts()
	byName := map[string]*Host{}
	for _, h := range hosts {
		byName[h.Name] = h
	}
	for name, tc := range map[string]struct{ got, want string }{
		"switch": {bridgeScript + cableScript([]*Host{byName["cp"], byName["n1"]}), `link set lo up
link add br0 type bridge
link set br0 up
link add cp type veth peer name eth0 netns fw-lab-cp
link set cp master br0 up
link add n1 type veth peer name eth0 netns fw-lab-n1
link set n1 master br0 up
`},
		"joined switch": {cableScript(joined[:1]), `link add joined-cp type veth peer name eth0 netns fw-other-cp
link set joined-cp master br0 up
`},
		"control plane": {hostScript(byName["cp"], lab.servicePrefix()), `link set lo up
link set eth0 up
addr add 198.18.0.2/18 dev eth0
addr add 198.18.0.3/18 dev eth0
`},
		"node": {hostScript(byName["n2"], lab.servicePrefix()), `link set lo up
link set eth0 up
addr add 198.18.0.22/18 dev eth0
route add 198.19.0.0/24 dev eth0 src 198.18.0.22
`},
		"routes of the control plane": {routeScript(byName["cp"], hosts), `route replace 198.18.65.0/24 via 198.18.0.21
route replace 198.18.66.0/24 via 198.18.0.22
`},
		"routes of a node": {routeScript(byName["n2"], hosts), `route replace 198.18.65.0/24 via 198.18.0.21
`},
		"routes of a node to those that joined": {routeScript(byName["n2"], joined), `route replace 198.18.129.0/24 via 198.18.1.21
`},
		"partition": {partitionRules("p", []string{"n1", "n2"}, []string{"cp"}), `table bridge p {
	chain forward {
		type filter hook forward priority 0;
		iifname { "n1", "n2" } oifname { "cp" } drop
		iifname { "cp" } oifname { "n1", "n2" } drop
	}
}
`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, tc.got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
