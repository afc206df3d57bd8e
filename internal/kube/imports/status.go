package imports

import (
	"context"
	"reflect"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// Tell writes the status of a ConsulImport of the view, unless it says so already.
func (s *Source) Tell(ctx context.Context, view View, status consulimport.Status) (wrote bool, err error) {
	in, known := view.asked[status.Import]
	if !known {
		return false, ErrConflict
	}
	now := statusOf(in.value, status, time.Now())
	if reflect.DeepEqual(now, in.value.status) {
		return false, nil
	}
	body := &v1alpha1.ConsulImport{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: status.Import.Namespace, Name: status.Import.Name, UID: in.uid, ResourceVersion: strconv.FormatUint(in.version, 10),
		},
		Status: now,
	}
	answer := &v1alpha1.ConsulImport{}
	err = s.own.Put().Namespace(status.Import.Namespace).Resource(importsResource).Name(status.Import.Name).SubResource("status").
		Body(body).Do(ctx).Into(answer)
	if err != nil {
		return false, classify(err)
	}
	return true, s.room(status.Import.Namespace).imports.wrote(answer)
}

// Says is what a ConsulImport was told last of its condition Ready; empty if nothing.
func (v View) Says(ref consulimport.Ref) (reason, message string) {
	if c := meta.FindStatusCondition(v.asked[ref].value.status.Conditions, consulimport.ConditionReady); c != nil {
		return c.Reason, c.Message
	}
	return "", ""
}

// statusOf is a status in the words of the API. A condition keeps the time of its
// last transition as long as its status is the same.
func statusOf(in asked, s consulimport.Status, now time.Time) v1alpha1.ConsulImportStatus {
	out := v1alpha1.ConsulImportStatus{
		ObservedGeneration: in.generation, Services: int32(s.Services), Endpoints: int32(s.Endpoints), //nolint:gosec // no cluster has as many
	}
	for _, c := range s.Conditions {
		condition := metav1.Condition{
			Type: c.Type, Status: metav1.ConditionStatus(c.Status), Reason: c.Reason, Message: c.Message,
			ObservedGeneration: in.generation, LastTransitionTime: metav1.NewTime(now),
		}
		if _, problem := in.allowed(now); problem != "" && c.Type == consulimport.ConditionRemovalsHeld && c.Status == service.ConditionTrue {
			condition.Message += "; " + problem
		}
		if before := meta.FindStatusCondition(in.status.Conditions, c.Type); before != nil && before.Status == condition.Status {
			condition.LastTransitionTime = before.LastTransitionTime
		}
		out.Conditions = append(out.Conditions, condition)
	}
	for _, i := range s.Imported {
		out.Imported = append(out.Imported, v1alpha1.ImportedService{
			Name: i.Name, ConsulService: i.Consul, Endpoints: int32(i.Endpoints), Message: i.Message, //nolint:gosec // as above
		})
	}
	for _, n := range s.NotImported {
		out.NotImported = append(out.NotImported, v1alpha1.NotImported{ConsulService: n.Consul, Reason: n.Reason, Message: n.Message})
	}
	return out
}
