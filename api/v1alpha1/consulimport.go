package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ConsulImport makes services of Consul available in Kubernetes: for each of
// them a Service without a selector, and EndpointSlices with its healthy
// instances, in the namespace of the ConsulImport.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=fairway
// +kubebuilder:metadata:annotations="helm.sh/resource-policy=keep"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Services",type=integer,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Endpoints",type=integer,JSONPath=`.status.endpoints`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 63",message="the name has more than 63 characters; it becomes a label of each Service"
type ConsulImport struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`

	// spec says what to import, and as what.
	// +required
	Spec ConsulImportSpec `json:"spec"`
	// status says what was imported, and what was not and why.
	// +optional
	Status ConsulImportStatus `json:"status,omitzero"`
}

// ConsulImportList is a list of ConsulImports.
//
// +kubebuilder:object:root=true
type ConsulImportList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ConsulImport `json:"items"`
}

// ConsulImportSpec says what to import, and as what.
//
// +kubebuilder:validation:XValidation:rule="!has(self.target) || !has(self.target.name) || self.target.name.contains('{service}') || (has(self.source.names) && size(self.source.names) == 1)",message="target.name must contain {service} unless source.names has exactly one name"
type ConsulImportSpec struct {
	// source says which services of Consul are imported.
	// +required
	Source ConsulSource `json:"source"`
	// target says what they become in Kubernetes.
	// +optional
	Target ServiceTarget `json:"target,omitzero"`
	// deletion says what becomes of a Service whose Consul service is gone for a
	// quarter of an hour, or is not named by the source any more. It has no
	// endpoints by then. Delete removes it; Retain keeps it, and with it its
	// cluster IP.
	// +kubebuilder:default=Delete
	// +optional
	Deletion DeletionPolicy `json:"deletion,omitempty"`
}

// DeletionPolicy is what becomes of a Service that is not imported any more.
//
// +kubebuilder:validation:Enum=Delete;Retain
type DeletionPolicy string

// The values of DeletionPolicy.
const (
	DeletionDelete DeletionPolicy = "Delete"
	DeletionRetain DeletionPolicy = "Retain"
)

// ConsulSource says which services of Consul are imported.
//
// +kubebuilder:validation:XValidation:rule="has(self.names) != has(self.pattern)",message="give either names or pattern"
// +kubebuilder:validation:XValidation:rule="!(has(self.datacenter) && has(self.peer))",message="give either datacenter or peer: a peer's services are in the own datacenter's catalog"
type ConsulSource struct {
	// names are the services, as Consul calls them.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	// +listType=set
	// +optional
	Names []string `json:"names,omitempty"`
	// pattern is a regular expression (RE2) that matches the whole name of each
	// service to import. It never matches "consul", the servers' own service.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="'consul'.matches(self) || !'consul'.matches(self)",message="not a regular expression (RE2)"
	// +optional
	Pattern string `json:"pattern,omitempty"`
	// tags are those that an instance must have, all of them.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	// +listType=set
	// +optional
	Tags []string `json:"tags,omitempty"`
	// datacenter is the Consul datacenter. By default it is the servers' own.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Datacenter string `json:"datacenter,omitempty"`
	// peer is the cluster peer that exports the services.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Peer string `json:"peer,omitempty"`
	// namespace is the namespace of Consul Enterprise.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// partition is the admin partition of Consul Enterprise.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +optional
	Partition string `json:"partition,omitempty"`
	// includeOwn imports also what Fairway has published from this cluster. By
	// default it is left out: Kubernetes knows it already.
	// +optional
	IncludeOwn bool `json:"includeOwn,omitempty"`
}

// ServiceTarget says what the services become in Kubernetes.
type ServiceTarget struct {
	// name is the name of the Service. {service} stands for the service's name
	// in Consul, made a valid name: in lower case, with "-" for what a name
	// cannot hold.
	// +kubebuilder:default="{service}"
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^([a-z0-9-]|\{service\})+$`
	// +optional
	Name string `json:"name,omitempty"`
	// type is ClusterIP for a Service with an address of its own, Headless for
	// one that resolves to the instances' addresses, ExternalName for one that
	// resolves to the host name under which an instance is registered. The type
	// of a Service that exists is not changed.
	// +kubebuilder:default=ClusterIP
	// +optional
	Type ServiceType `json:"type,omitempty"`
	// ports are the Service's ports. By default it is one without a name, which
	// leads to the port of each instance.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="size(self) == 1 || self.all(p, has(p.name))",message="each of several ports needs a name"
	// +kubebuilder:validation:XValidation:rule="self.all(p, !has(p.name) || self.exists_one(q, has(q.name) && q.name == p.name))",message="two ports have the same name"
	// +kubebuilder:validation:XValidation:rule="self.all(p, !has(p.port) || self.exists_one(q, has(q.port) && q.port == p.port && q.protocol == p.protocol))",message="two ports have the same number and protocol"
	// +listType=atomic
	// +optional
	Ports []ServicePort `json:"ports,omitempty"`
	// labels are put on the Service, besides Fairway's own.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('fairway.dev/') && k != 'app.kubernetes.io/managed-by')",message="fairway.dev/... and app.kubernetes.io/managed-by are set by Fairway"
	// +optional
	Labels map[string]string `json:"labels,omitempty"`
	// annotations are put on the Service, besides Fairway's own.
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('fairway.dev/'))",message="fairway.dev/... are set by Fairway"
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// ServiceType is the kind of Service that is made.
//
// +kubebuilder:validation:Enum=ClusterIP;Headless;ExternalName
type ServiceType string

// The values of ServiceType.
const (
	ServiceClusterIP    ServiceType = "ClusterIP"
	ServiceHeadless     ServiceType = "Headless"
	ServiceExternalName ServiceType = "ExternalName"
)

// ServicePort is a port of the Services that are made.
type ServicePort struct {
	// name of the port. It is needed if there are several.
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`
	// +optional
	Name string `json:"name,omitempty"`
	// port is the number that clients in the cluster use. By default it is the
	// one that most instances have when the Service is made, and stays that. An
	// instance that registers no port is reached at this one.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
	// protocol is the port's protocol. Consul does not know it.
	// +kubebuilder:default=TCP
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	// +optional
	Protocol string `json:"protocol,omitempty"`
	// consulPort is the name of one of the instances' further ports, those that
	// they register by name or as port-NAME in their meta. By default it is the
	// instance's port itself.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +optional
	ConsulPort string `json:"consulPort,omitempty"`
}

// ConsulImportStatus says what was imported, and what was not and why.
type ConsulImportStatus struct {
	// observedGeneration is the generation of the spec that the status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// conditions are Ready, SourceKnown and RemovalsHeld.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// services is how many Services there are.
	// +optional
	Services int32 `json:"services,omitempty"`
	// endpoints is how many ready endpoints they have together.
	// +optional
	Endpoints int32 `json:"endpoints,omitempty"`
	// imported are the Services, by name; the first hundred of them.
	// +kubebuilder:validation:MaxItems=100
	// +listType=atomic
	// +optional
	Imported []ImportedService `json:"imported,omitempty"`
	// notImported are services that should be Services and are not; the first
	// fifty of them.
	// +kubebuilder:validation:MaxItems=50
	// +listType=atomic
	// +optional
	NotImported []NotImported `json:"notImported,omitempty"`
}

// ImportedService is a Service that stands for a service of Consul.
type ImportedService struct {
	// name of the Service.
	Name string `json:"name"`
	// consulService is the service's name in Consul.
	ConsulService string `json:"consulService"`
	// endpoints is how many ready endpoints the Service has.
	Endpoints int32 `json:"endpoints"`
	// message says what is particular: endpoints that are held, instances that
	// cannot be endpoints.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}

// NotImported is a service of Consul that should be a Service and is not.
type NotImported struct {
	// consulService is the service's name in Consul.
	ConsulService string `json:"consulService"`
	// reason is why, in one word.
	Reason string `json:"reason"`
	// message is why, in words.
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	Message string `json:"message,omitempty"`
}
