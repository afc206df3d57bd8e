package export

import (
	"fmt"
)

// Shards is how many virtual Consul nodes hold the entries of a cluster's Services.
// To read one, or to be told that it has changed, is a sixteenth of them all. The
// number cannot be changed without moving entries.
const Shards = 16

// ShardOf is the shard that holds the entries of a Service, from 0 to Shards-1.
func ShardOf(namespace, name string) int {
	const offset, prime = 2166136261, 16777619 // FNV-1a
	hash := uint32(offset)
	for _, b := range []byte(namespace + "/" + name) {
		hash = (hash ^ uint32(b)) * prime
	}
	return int(hash % Shards)
}

// ShardName is the node name under which a shard's virtual Consul node is made. No
// Kubernetes node can have it.
func ShardName(shard int) string { return fmt.Sprintf("services/%02d", shard) }
