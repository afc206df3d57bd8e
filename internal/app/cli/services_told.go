package cli

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/internal/diagnosis"
)

// tellTold adds to the Services of which something is to be written, or is held, what
// the controller has told of it on the Service: it knows why it has not been able to.
func tellTold(ctx context.Context, client kubernetes.Interface, lines []diagnosis.ServiceLine) {
	told := map[string]map[string]string{} // by namespace and Service
	for i := range lines {
		l := &lines[i]
		if len(l.Writes)+len(l.Held) == 0 {
			continue
		}
		if told[l.Namespace] == nil {
			list, err := client.CoreV1().Events(l.Namespace).List(ctx, metav1.ListOptions{
				FieldSelector: "involvedObject.kind=Service,source=" + controllerName,
			})
			if err != nil {
				l.Told = "the Events could not be read: " + err.Error()
				continue
			}
			told[l.Namespace] = warnings(list.Items, time.Now())
		}
		l.Told = told[l.Namespace][l.Service]
	}
}

// warnings are the last Events on each object, of those on which that is a warning.
func warnings(events []corev1.Event, now time.Time) map[string]string {
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	last := map[string]string{}
	for _, event := range events {
		delete(last, event.InvolvedObject.Name)
		if event.Type == corev1.EventTypeWarning {
			last[event.InvolvedObject.Name] = diagnosis.Lasted(now.Sub(event.LastTimestamp.Time)) + " ago: " + event.Reason + ": " + event.Message
		}
	}
	return last
}
