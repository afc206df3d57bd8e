package export_test

import (
	"fmt"
	"strings"
	"testing"

	"fairway.dev/fairway/internal/export"
)

// Entries stand where the version before has put them, and no shard holds much more
// than its part.
func TestShards(t *testing.T) {
	for name, want := range map[string]int{"web": 4, "api": 6, "": 2} {
		if got := export.ShardOf("shop", name); got != want {
			t.Errorf("shop/%s is in shard %d, and was in %d", name, got, want)
		}
	}
	held := map[int]int{}
	const services = 1600
	for i := range services {
		held[export.ShardOf(fmt.Sprintf("namespace-%d", i%40), fmt.Sprintf("service-%d", i))]++
	}
	for shard := range export.Shards {
		if n := held[shard]; n < services/export.Shards/2 || n > services/export.Shards*2 {
			t.Errorf("shard %d holds %d of %d Services", shard, n, services)
		}
		if name := export.ShardName(shard); !strings.Contains(name, "/") {
			t.Errorf("%s may be the name of a Kubernetes node", name)
		}
	}
}
