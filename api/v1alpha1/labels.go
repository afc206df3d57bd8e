package v1alpha1

// What Fairway sets on the Services and EndpointSlices that it makes of a
// ConsulImport.
const (
	// LabelImport holds the name of the ConsulImport.
	LabelImport = "fairway.dev/consul-import"
	// LabelManagedBy holds ManagedBy.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "fairway"
	// SlicesManagedBy stands in the label endpointslice.kubernetes.io/managed-by of
	// the EndpointSlices.
	SlicesManagedBy = "consul-import.fairway.dev"

	// AnnotationService holds the name of the service in Consul; the others say
	// where in Consul it is, if that is not the default.
	AnnotationService    = "fairway.dev/consul-service"
	AnnotationDatacenter = "fairway.dev/consul-datacenter"
	AnnotationPeer       = "fairway.dev/consul-peer"
	AnnotationNamespace  = "fairway.dev/consul-namespace"
	AnnotationPartition  = "fairway.dev/consul-partition"
	// AnnotationIndex holds Consul's index when the object was last written, or
	// IndexBefore while it holds what is from before the index went back.
	AnnotationIndex = "fairway.dev/consul-index"
	IndexBefore     = "before"
	// AnnotationLabels and AnnotationAnnotations name, separated by commas, the
	// labels and annotations that spec.target has asked for.
	AnnotationLabels      = "fairway.dev/target-labels"
	AnnotationAnnotations = "fairway.dev/target-annotations"

	// AnnotationAllowRemovals, on a ConsulImport, is the time until which a person
	// lets all of its removals pass.
	AnnotationAllowRemovals = "fairway.dev/allow-removals-until"
)
