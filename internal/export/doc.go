// Package export decides which instances the Services of a Kubernetes cluster have
// in Consul, and what must be written to get there. It is pure.
//
// [Instances] says what one Service asks for, by its annotations and the
// operator's [Policy]. [Decide] makes claims of that, one for each endpoint, and
// has package registration compare them with what the registry holds, by the rules
// that hold for pods too: status before membership, the last good registration, all
// fields compared, nothing written at rest.
//
// # Health
//
// It is taken from the EndpointSlices. Nil ready and serving mean true, nil
// terminating means false, as the API has it. A pod that waits at a readiness gate
// of Fairway's is not ready there, so its Services' instances are critical until
// the gate has opened. That cannot be a deadlock: a gate waits for the instances
// that the pod's own annotations declare, never for those of a Service.
//
// # Proof of absence
//
// A list that lacks an object proves nothing (I1). Each entry names in its meta
// ([service.MetaStatedBy]) the objects that have stated it, mostly EndpointSlices, as
// many as Consul lets it hold. So also a process that has just started knows what
// it must have seen. An endpoint that nothing states is gone only if
//
//   - each object that has stated it is there and does no more, or is proven gone,
//   - and no other that may state endpoints of the Service is missing.
//
// Until then its entry is held as it is, and [Plan.Ask] names the objects to ask
// the API server about. An entry of which only some of those objects are seen keeps
// its last registration. Two things need no more than one proof: a Service that is
// proven gone takes its entries with it, and an endpoint on a node that is proven
// gone is critical.
//
// # Shards
//
// Entries stand under virtual Consul nodes, [Shards] of them. [ShardOf] says which
// one holds those of a Service. They carry no node of their own: what carries one
// is an agent's, and is not touched (I5).
package export
