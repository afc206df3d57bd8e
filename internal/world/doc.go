// Package world tests the core as a whole. A world is a node with its pods, the
// two sources that tell of them, a registry, the servers behind it, and an agent
// that works with all of that through the core's decisions alone. Everything in
// it fails, lags, lies, is edited by strangers and starts anew at random; the
// invariants hold at every step, and once the world is quiet it comes to rest.
//
// The adapters and the loops of the agent have tests of their own. What they do
// between two decisions is modelled here as simply as it can be said.
package world
