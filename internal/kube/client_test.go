package kube

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/internal/service"
)

// The client reads what an API server says of a pod: the pod itself, and the
// words by which it proves that there is none.
func TestClientConfirms(t *testing.T) {
	ref := service.PodRef{Namespace: "shop", Name: "web-1", UID: "uid-1"}
	notFound := apierrors.NewNotFound(corev1.Resource("pods"), "web-1").Status()
	notFound.Kind, notFound.APIVersion = "Status", "v1"
	there := named("web-1", "uid-1")
	there.Kind, there.APIVersion = "Pod", "v1"
	for name, c := range map[string]struct {
		code   int
		answer any
		gone   bool
	}{
		"the pod":     {http.StatusOK, there, false},
		"no such pod": {http.StatusNotFound, notFound, true},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v1/namespaces/shop/pods/web-1" {
					t.Errorf("asked for %s", r.URL.Path)
				}
				w.Header().Set("Content-Type", runtime.ContentTypeJSON)
				w.WriteHeader(c.code)
				_ = json.NewEncoder(w).Encode(c.answer)
			}))
			defer server.Close()
			client, err := NewClient(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{
				ContentType: runtime.ContentTypeProtobuf, AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
			}})
			if err != nil {
				t.Fatal(err)
			}
			found, why, err := Confirm(t.Context(), client, ref)
			gone := err == nil && found == nil
			if err != nil || gone != c.gone {
				t.Errorf("gone %v because %q, error %v; want %v", gone, why, err, c.gone)
			}
		})
	}
}
