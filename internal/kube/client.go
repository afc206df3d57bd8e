package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Client speaks to the API server about pods and Events, all that a node agent
// needs. It is not client-go's clientset: that links every kind Kubernetes has,
// and made up half of the program and two fifths of its memory.
type Client struct {
	core   *rest.RESTClient // for the group of pods
	scheme *runtime.Scheme
}

// NewClient makes a Client. It contacts nobody.
func NewClient(config *rest.Config) (*Client, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.APIPath, config.GroupVersion = "/api", &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	core, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return &Client{core: core, scheme: scheme}, nil
}

func (c *Client) pod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	pod := new(corev1.Pod)
	err := c.core.Get().Namespace(namespace).Resource("pods").Name(name).Do(ctx).Into(pod)
	return pod, err
}

func (c *Client) patchPodStatus(ctx context.Context, namespace, name string, patch []byte) error {
	return c.core.Patch(types.StrategicMergePatchType).Namespace(namespace).Resource("pods").Name(name).
		SubResource("status").Body(patch).Do(ctx).Error()
}

// read gets a path that is no object.
func (c *Client) read(ctx context.Context, path string) ([]byte, error) {
	data, err := c.core.Get().AbsPath(path).SetHeader("Accept", "*/*").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	return data, nil
}

// eventSink is record.EventSink.
type eventSink struct{ *Client }

// Create makes an Event.
func (s eventSink) Create(event *corev1.Event) (*corev1.Event, error) {
	return s.send(s.core.Post(), event.Namespace, event)
}

// Update replaces an Event.
func (s eventSink) Update(event *corev1.Event) (*corev1.Event, error) {
	return s.send(s.core.Put().Name(event.Name), event.Namespace, event)
}

// Patch changes an Event.
func (s eventSink) Patch(event *corev1.Event, patch []byte) (*corev1.Event, error) {
	return s.send(s.core.Patch(types.StrategicMergePatchType).Name(event.Name), event.Namespace, patch)
}

func (s eventSink) send(request *rest.Request, namespace string, body any) (*corev1.Event, error) {
	result := new(corev1.Event)
	// The recorder gives no context; it bounds neither its calls nor their end.
	err := request.Namespace(namespace).Resource("events").Body(body).Do(context.Background()).Into(result)
	return result, err
}
