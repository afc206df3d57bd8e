// Package node is the protocol between a pod's sidecar and the agent of its
// node. All but this file is generated from node.proto by `make generate`.
package node
