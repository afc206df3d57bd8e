package v1alpha1

// The labels of a Service that Fairway has made of one that Consul has.
const (
	// LabelManagedBy says who keeps an object, by the convention of Kubernetes, and
	// ManagedBy that it is Fairway.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "fairway"
	// LabelConsulImport names the ConsulImport, of the Service's own namespace.
	LabelConsulImport = "fairway.dev/consul-import"
)
