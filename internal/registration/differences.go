package registration

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/service"
)

// Differences says in words where an entry differs from what is wanted, in all
// that Register writes.
func Differences(have, want service.Instance) []string {
	var diff []string
	if have.Name != want.Name {
		diff = append(diff, fmt.Sprintf("name differs: is %q, should be %q", have.Name, want.Name))
	}
	if have.Address != want.Address {
		diff = append(diff, fmt.Sprintf("address differs: is %s, should be %s", have.Address, want.Address))
	}
	if have.Hostname != want.Hostname {
		diff = append(diff, fmt.Sprintf("hostname differs: is %q, should be %q", have.Hostname, want.Hostname))
	}
	if have.Port != want.Port {
		diff = append(diff, fmt.Sprintf("port differs: is %d, should be %d", have.Port, want.Port))
	}
	if keys := differingKeys(have.Tagged, want.Tagged); len(keys) > 0 {
		diff = append(diff, "tagged addresses differ: "+strings.Join(keys, ", "))
	}
	if !slices.Equal(have.Tags, want.Tags) {
		diff = append(diff, "tags differ")
	}
	if keys := differingKeys(have.Meta, want.Meta); len(keys) > 0 {
		diff = append(diff, "meta differs: "+strings.Join(keys, ", "))
	}
	if have.Weights != want.Weights {
		diff = append(diff, fmt.Sprintf("weights differ: are %d and %d, should be %d and %d",
			have.Weights.Passing, have.Weights.Warning, want.Weights.Passing, want.Weights.Warning))
	}
	if have.CheckTTL != want.CheckTTL {
		diff = append(diff, fmt.Sprintf("check TTL differs: is %s, should be %s", have.CheckTTL, want.CheckTTL))
	}
	return diff
}

// Same tells whether two looks at the registry have found the same.
func (e Entry) Same(other Entry) bool {
	a, b := e.Instance, other.Instance
	return e.Cluster == other.Cluster && e.Node == other.Node && e.HasCheck == other.HasCheck && e.Lapsed == other.Lapsed &&
		a.ID == b.ID && a.Pod == b.Pod && a.Endpoint == b.Endpoint && a.Health == b.Health && a.Notes == b.Notes &&
		len(Differences(a, b)) == 0
}

// differingKeys are the keys whose values differ or that one side lacks.
func differingKeys[V comparable](a, b map[string]V) []string {
	if maps.Equal(a, b) { // at every look at every entry, mostly so
		return nil
	}
	keys := map[string]bool{}
	for _, side := range []map[string]V{a, b} {
		for key := range side {
			av, inA := a[key]
			bv, inB := b[key]
			if av != bv || inA != inB {
				keys[key] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
