package fault

import (
	"net/http"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// request is what a client asks a Kubernetes server for. It is zero for a path
// that names no resource, such as /healthz.
type request struct {
	kubelet  bool // asked of a kubelet's own API
	group    string
	version  string
	resource string
	name     string // "" for a list
	watch    bool
}

func parse(r *http.Request) request {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	asked := request{}
	asked.watch, _ = strconv.ParseBool(r.URL.Query().Get("watch"))
	switch {
	case parts[0] == "pods" || parts[0] == "runningpods":
		return request{kubelet: true, version: "v1", resource: "pods"}
	case parts[0] == "api" && len(parts) > 2:
		asked.version, parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		asked.group, asked.version, parts = parts[1], parts[2], parts[3:]
	default:
		return request{}
	}
	if parts[0] == "namespaces" && len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
		parts = parts[2:]
	}
	asked.resource = parts[0]
	if len(parts) > 1 {
		asked.name = parts[1]
	}
	return asked
}

func (r request) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.group, Resource: r.resource}
}

func (r request) apiVersion() string {
	return schema.GroupVersion{Group: r.group, Version: r.version}.String()
}

// kind returns the kind of the resource's objects, for those that Fairway and
// its tests list.
func (r request) kind() (kind string, known bool) {
	kinds := map[string]string{
		"configmaps":                      "ConfigMap",
		"endpoints":                       "Endpoints",
		"events":                          "Event",
		"namespaces":                      "Namespace",
		"nodes":                           "Node",
		"pods":                            "Pod",
		"secrets":                         "Secret",
		"serviceaccounts":                 "ServiceAccount",
		"services":                        "Service",
		"daemonsets.apps":                 "DaemonSet",
		"deployments.apps":                "Deployment",
		"replicasets.apps":                "ReplicaSet",
		"statefulsets.apps":               "StatefulSet",
		"ingresses.networking.k8s.io":     "Ingress",
		"endpointslices.discovery.k8s.io": "EndpointSlice",
		"leases.coordination.k8s.io":      "Lease",
	}
	kind, known = kinds[r.groupResource().String()]
	return kind, known
}
