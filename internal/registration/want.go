package registration

import (
	"maps"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/service"
)

// Want is what a pod of the given cluster and node asks for, declared being
// what its annotations say.
func Want(pod service.Pod, declared annotation.Result, cluster, node string) PodState {
	health, notes := pod.Status()
	state := PodState{
		Pod:         pod.Ref,
		Health:      health,
		Notes:       notes,
		Ended:       pod.Ended(),
		Terminating: pod.Terminating,
		// Errors count even on a pod that declares nothing: a misspelled
		// annotation must not take a service away.
		Incomplete: len(declared.Errors) > 0 || len(declared.Instances) < len(declared.Services),
	}
	for _, instance := range declared.Instances {
		instance.Health, instance.Notes = health, notes
		meta := make(map[string]string, len(instance.Meta)+2)
		maps.Copy(meta, instance.Meta)
		meta[service.MetaCluster] = cluster
		meta[service.MetaNode] = node
		instance.Meta = meta
		state.Instances = append(state.Instances, instance)
	}
	return state
}
