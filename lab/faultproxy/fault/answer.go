package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// garbage is valid in no encoding that a Kubernetes client understands.
const garbage = "\x00\xff}{ the lab's fault proxy answers nonsense\n"

var errInjected = errors.New("the lab's fault proxy stands in for a fault of this server")

// answer answers a request as a server with the fault would. It serves the
// modes that have an answer: not Off and not Hang.
func answer(w http.ResponseWriter, r *http.Request, mode Mode) {
	asked := parse(r)
	switch mode {
	case Forbidden:
		refuse(w, asked, apierrors.NewForbidden(asked.groupResource(), asked.name, errInjected))
	case Garbage:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(garbage))
	case Empty:
		answerEmpty(w, r, asked)
	case Elsewhere:
		answerElsewhere(w, r, asked)
	default:
		refuse(w, asked, apierrors.NewInternalError(errInjected))
	}
}

// answerElsewhere answers as the API server of another cluster, which knows
// neither the objects nor the resource versions of this one.
func answerElsewhere(w http.ResponseWriter, r *http.Request, asked request) {
	query := r.URL.Query()
	initial, _ := strconv.ParseBool(query.Get("sendInitialEvents"))
	_, known := asked.kind()
	switch {
	case known && asked.name != "" && !asked.kubelet:
		refuse(w, asked, apierrors.NewNotFound(asked.groupResource(), asked.name))
	case asked.watch && !initial && len(query.Get("resourceVersion")) > 1:
		refuse(w, asked, apierrors.NewResourceExpired("too old resource version: "+query.Get("resourceVersion")))
	default:
		answerEmpty(w, r, asked)
	}
}

// refuse answers with an error in the form that the server behind the proxy
// uses: a Status for the API server, plain text for the kubelet.
func refuse(w http.ResponseWriter, asked request, err *apierrors.StatusError) {
	status := err.Status()
	if asked.kubelet {
		http.Error(w, status.Message, int(status.Code))
		return
	}
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	answerJSON(w, int(status.Code), status)
}

// answerEmpty answers that there is nothing of the kind asked for. What is not
// a list or a watch fails: that one object does not exist would be a statement
// about that object, which no empty server makes by accident.
func answerEmpty(w http.ResponseWriter, r *http.Request, asked request) {
	kind, known := asked.kind()
	switch {
	case asked.kubelet && r.Method == http.MethodGet:
		// This is how a kubelet says that it has no pods.
		answerJSON(w, http.StatusOK, map[string]any{"kind": "PodList", "apiVersion": "v1", "metadata": struct{}{}, "items": nil})
	case r.Method != http.MethodGet || asked.name != "" || !known:
		refuse(w, asked, apierrors.NewInternalError(errInjected))
	case asked.watch:
		watchNothing(w, r, asked, kind)
	default:
		answerJSON(w, http.StatusOK, map[string]any{
			"kind": kind + "List", "apiVersion": asked.apiVersion(),
			"metadata": metav1.ListMeta{ResourceVersion: "1"}, "items": []any{},
		})
	}
}

// watchNothing is a watch that shows no objects. A client that asked for the
// initial state as events is told that it has now seen all of it.
func watchNothing(w http.ResponseWriter, r *http.Request, asked request, kind string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if initial, _ := strconv.ParseBool(r.URL.Query().Get("sendInitialEvents")); initial {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "BOOKMARK", "object": metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{Kind: kind, APIVersion: asked.apiVersion()},
			ObjectMeta: metav1.ObjectMeta{
				ResourceVersion: "1",
				Annotations:     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
			},
		}})
	}
	_ = http.NewResponseController(w).Flush()
	ctx := r.Context()
	if seconds, err := strconv.Atoi(r.URL.Query().Get("timeoutSeconds")); err == nil && seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
		defer cancel()
	}
	<-ctx.Done()
}

func answerJSON(w http.ResponseWriter, code int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(fmt.Sprintf("fault: encode an answer: %v", err)) // only types of this package get here
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n'))
}
