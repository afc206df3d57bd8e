package registration

import (
	"maps"
	"time"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// fixedNotes is why an instance has a health that is not its pod's.
const fixedNotes = "fixed by the annotation service-health"

// Want is what a pod of the given cluster and node asks for, declared being
// what its annotations say. checkTTL is the dead-man of entries whose pod asks
// for none; zero if the registry has no dead-men, and then a pod's own has no
// effect either.
func Want(pod service.Pod, declared annotation.Result, cluster, node string, checkTTL time.Duration) Claim {
	health, notes := pod.Status(declared.Excluded...)
	state := Claim{
		Pod:         pod.Ref,
		Health:      health,
		Notes:       notes,
		Ended:       pod.Ended(),
		Terminating: pod.Terminating,
		// Errors count even on a pod that declares nothing: a misspelled
		// annotation must not take a service away.
		Incomplete: len(declared.Errors) > 0 || len(declared.Instances) < len(declared.Services),
	}
	if pod.Running() { // a pod that leaves is critical, whatever was asked for (I4)
		state.Fixed = declared.Fixed
	}
	for _, instance := range declared.Instances {
		instance.Health, instance.Notes = health, notes
		if fixed, ok := state.Fixed.For(instance.Name); ok {
			instance.Health, instance.Notes = fixed, fixedNotes
		}
		if checkTTL == 0 || instance.CheckTTL == 0 {
			instance.CheckTTL = checkTTL
		}
		meta := make(map[string]string, len(instance.Meta)+2)
		maps.Copy(meta, instance.Meta)
		meta[service.MetaCluster] = cluster
		meta[service.MetaNode] = node
		instance.Meta = meta
		state.Instances = append(state.Instances, instance)
	}
	return state
}
