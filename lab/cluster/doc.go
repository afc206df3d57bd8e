// Package cluster runs a real Kubernetes cluster and a real Consul cluster on one Linux machine.
//
// Every host of a lab is a network namespace. A bridge in one more namespace joins them, and none
// has a way out of the machine. Servers are ordinary processes inside these namespaces: etcd,
// kube-apiserver, kube-controller-manager and kube-scheduler on host "cp", one Consul server on each
// of "consul-1" to "consul-3", containerd, kubelet, kube-proxy and (if wanted) a Consul client agent
// on each of "n1", "n2", … and nothing on "client", from which tests and people look at the cluster and
// on which services outside Kubernetes can run.
//
// A lab may join another one (Topology.Join): then it is a second Kubernetes cluster on the other's
// network, with the other's Consul servers, and still a Cluster of its own.
//
// Nothing is simulated except trouble: see the Fault methods of Cluster.
//
// What a lab is made of is on disk below StateDir, so any process can Open a lab that another one
// brought up. Several labs run side by side; all of them use the same addresses, each in its own
// namespaces.
package cluster
