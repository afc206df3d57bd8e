package imports

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"fairway.dev/fairway/api/v1alpha1"
	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

// api answers one kind of request with what it is told, and keeps what was asked.
type api struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string // method, path and body
	code   int
	answer any
}

func newAPI(t *testing.T) (*api, *Source) {
	t.Helper()
	a := &api{code: http.StatusOK}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	s, err := New(&rest.Config{Host: a.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a, s
}

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	a.asked = append(a.asked, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.code)
	_ = json.NewEncoder(w).Encode(a.answer)
}

// refuse makes the API answer with an error.
func (a *api) refuse(err *apierrors.StatusError) {
	status := err.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	a.code, a.answer = int(status.Code), status
}

func asAnswer(s *corev1.Service) *corev1.Service {
	s.Kind, s.APIVersion = "Service", "v1"
	return s
}

func told(s *Source) bool {
	select {
	case <-s.Changed():
		return true
	default:
		return false
	}
}

func feed(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// A watch that has yet to see our own write does not undo it, and what we wrote is
// no news.
func TestTheWatchLagsBehindOurWrites(t *testing.T) {
	t.Parallel()
	_, s := newAPI(t)
	services := s.rooms[""].services
	at := func(version, label string) *corev1.Service {
		return stored(newService(shopService(func(s *consulimport.Service) { s.Labels = map[string]string{"v": label} })), version)
	}
	expect := func(when, label string, news bool) {
		t.Helper()
		kept, has := services.objects[consulimport.Ref{Namespace: "shop", Name: "web"}]
		if got := kept.value.Labels["v"]; has != (label != "") || got != label {
			t.Errorf("%s: %q, want %q", when, got, label)
		}
		if got := told(s); got != news {
			t.Errorf("%s: news %v, want %v", when, got, news)
		}
	}
	feed(t, services.Replace([]any{at("10", "a")}, ""))
	expect("listed", "a", true)
	feed(t, services.wrote(at("12", "b")))
	expect("written", "b", false)
	feed(t, services.Update(at("11", "theirs")))
	expect("an event from before", "b", false)
	feed(t, services.Update(at("12", "b")))
	expect("our own event", "b", false)
	feed(t, services.Replace([]any{at("11", "theirs")}, ""))
	expect("a list from before", "b", true)
	feed(t, services.Update(at("13", "b")))
	expect("a change that does not show", "b", false)
	feed(t, services.Update(at("14", "c")))
	expect("somebody's change", "c", true)
	services.deleted(consulimport.Ref{Namespace: "shop", Name: "web"}, "uid-1")
	expect("deleted by us", "", false)
	feed(t, services.Update(at("14", "c")))
	expect("an event from before the end", "", false)
	feed(t, services.Delete(at("15", "c")))
	expect("its end", "", false)
	again := at("16", "d")
	again.UID = "uid-2"
	feed(t, services.Add(again))
	expect("made again", "d", true)
	feed(t, services.Delete(at("15", "c")))
	expect("the end of the one before", "d", false)
	for _, stranger := range []any{nil, &corev1.Pod{}, &corev1.Service{}} {
		if services.Update(stranger) == nil {
			t.Errorf("%T was taken in", stranger)
		}
	}
}

// Every write finds what was decided about, or nothing.
func TestWritesFindWhatWasDecidedAbout(t *testing.T) {
	t.Parallel()
	a, s := newAPI(t)
	want := shopService()
	a.answer, a.code = asAnswer(stored(newService(want), "5")), http.StatusCreated
	feed(t, s.Apply(t.Context(), consulimport.Op{Verb: consulimport.Create, Service: &want}))
	if got := a.asked[0]; !strings.HasPrefix(got, "POST /api/v1/namespaces/shop/services ") {
		t.Errorf("create is %s", got)
	}
	want.Version = "4"
	for _, verb := range []consulimport.Verb{consulimport.Update, consulimport.Delete} {
		if err := s.Apply(t.Context(), consulimport.Op{Verb: verb, Service: &want}); !errors.Is(err, ErrConflict) || len(a.asked) > 1 {
			t.Errorf("%s of a version that is gone: %v, asked %q", verb, err, a.asked)
		}
	}
	want.Version = "5"
	a.answer, a.code = asAnswer(stored(newService(want), "6")), http.StatusOK
	feed(t, s.Apply(t.Context(), consulimport.Op{Verb: consulimport.Update, Service: &want}))
	if got := a.asked[1]; !strings.HasPrefix(got, "PATCH /api/v1/namespaces/shop/services/web ") || !strings.Contains(got, `"resourceVersion":"5"`) {
		t.Errorf("update is %s", got)
	}
	want.Version = "6"
	feed(t, s.Apply(t.Context(), consulimport.Op{Verb: consulimport.Delete, Service: &want}))
	if got := a.asked[2]; !strings.HasPrefix(got, "DELETE /api/v1/namespaces/shop/services/web ") ||
		!strings.Contains(got, `"preconditions":{"uid":"uid-1","resourceVersion":"6"}`) {
		t.Errorf("delete is %s", got)
	}
	if left := s.View().Services; len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A write that fails says whether it is to be decided anew, will never be taken, or
// may be tried again.
func TestHowWritesFail(t *testing.T) {
	t.Parallel()
	services := schema.GroupResource{Resource: "services"}
	for name, tt := range map[string]struct {
		err      *apierrors.StatusError
		conflict bool
		refused  string
	}{
		"somebody has made it":   {apierrors.NewAlreadyExists(services, "web"), true, ""},
		"somebody has written":   {apierrors.NewConflict(services, "web", errors.New("modified")), true, ""},
		"it is gone":             {apierrors.NewNotFound(services, "web"), true, ""},
		"it is invalid":          {apierrors.NewInvalid(schema.GroupKind{Kind: "Service"}, "web", nil), false, `Service "web" is invalid`},
		"a policy is against it": {apierrors.NewForbidden(services, "web", errors.New("no more Services")), false, "no more Services"},
		"it asks to wait":        {apierrors.NewTooManyRequests("later", 1), false, ""},
		"it is in trouble":       {apierrors.NewInternalError(errors.New("etcd")), false, ""},
		"it does not know us":    {apierrors.NewUnauthorized("who?"), false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status := tt.err.Status()
			status.Details = nil // a client that is told to wait does, by itself
			a, s := newAPI(t)
			a.refuse(&apierrors.StatusError{ErrStatus: status})
			want := shopService()
			err := s.Apply(t.Context(), consulimport.Op{Verb: consulimport.Create, Service: &want})
			refused, is := errors.AsType[*Refused](err)
			if err == nil || errors.Is(err, ErrConflict) != tt.conflict || is != (tt.refused != "") || is && !strings.Contains(refused.Words, tt.refused) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A name that somebody else's slice has is known once a write has met it.
func TestTakenNameOfASlice(t *testing.T) {
	t.Parallel()
	a, s := newAPI(t)
	a.refuse(apierrors.NewAlreadyExists(schema.GroupResource{Resource: "endpointslices"}, "web-consul-1"))
	want := slice()
	if err := s.Apply(t.Context(), consulimport.Op{Verb: consulimport.Create, Slice: &want}); !errors.Is(err, ErrConflict) {
		t.Errorf("error %v", err)
	}
	got := s.View().Slices
	if diff := cmp.Diff([]consulimport.Slice{{Object: consulimport.Object{Ref: want.Ref}}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Nothing is shown as complete before every list was, and why it is not is said.
func TestView(t *testing.T) {
	t.Parallel()
	_, s := newAPI(t)
	r := s.rooms[""]
	imported := stored(&v1alpha1.ConsulImport{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "backends"}}, "1")
	ending := stored(&v1alpha1.ConsulImport{ObjectMeta: metav1.ObjectMeta{Namespace: "bar", Name: "ending", DeletionTimestamp: new(metav1.Now())}}, "1")
	elsewhere := stored(newService(shopService()), "5")
	elsewhere.Namespace = "bar"
	feed(t, r.imports.Replace([]any{imported, ending}, ""), r.services.Replace([]any{stored(newService(shopService()), "5"), elsewhere}, ""))
	s.answered(slicesResource, errors.New("forbidden"))
	if got, want := s.View().Missing, "the list of endpointslices is not complete yet: forbidden"; got != want {
		t.Errorf("missing %q, want %q", got, want)
	}
	feed(t, r.slices.Replace([]any{stored(newSlice(slice()), "5")}, ""))
	v := s.View()
	if v.Silent != "endpointslices: forbidden" {
		t.Errorf("silent: %q", v.Silent)
	}
	s.answered(slicesResource, nil)
	if again := s.View(); again.Silent != "" {
		t.Errorf("silent: %q", again.Silent)
	}
	if v.Missing != "" || len(v.Imports) != 1 || len(v.Services) != 1 || len(v.Slices) != 1 {
		t.Errorf("%+v", v)
	}
}

// A status is written if it says something else, and a condition keeps its time as
// long as it stays what it is.
func TestTell(t *testing.T) {
	t.Parallel()
	a, s := newAPI(t)
	longAgo := metav1.NewTime(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
	in := stored(&v1alpha1.ConsulImport{
		TypeMeta:   metav1.TypeMeta{Kind: "ConsulImport", APIVersion: "fairway.dev/v1alpha1"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "backends", Generation: 2},
		Status: v1alpha1.ConsulImportStatus{Conditions: []metav1.Condition{
			{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Imported", LastTransitionTime: longAgo},
			{Type: "SourceKnown", Status: metav1.ConditionFalse, Reason: "SourceUnknown", LastTransitionTime: longAgo},
		}},
	}, "5")
	feed(t, s.rooms[""].imports.Replace([]any{in}, ""))
	status := consulimport.Status{
		Import: consulimport.Ref{Namespace: "shop", Name: "backends"}, Services: 1, Endpoints: 2,
		Conditions: []consulimport.Condition{
			{Type: "Ready", Status: service.ConditionTrue, Reason: "Imported", Message: "services imported: 1"},
			{Type: "SourceKnown", Status: service.ConditionTrue, Reason: "Answered"},
		},
		Imported:    []consulimport.Imported{{Name: "web", Consul: "Web_1", Endpoints: 2, Message: "m"}},
		NotImported: []consulimport.NotImported{{Consul: "db", Reason: "NoPort", Message: "n"}},
	}
	view := s.View()
	a.answer = in // the API server's answer, which the next look compares with
	if wrote, err := s.Tell(t.Context(), view, status); !wrote || err != nil || !strings.HasPrefix(a.asked[0], "PUT /apis/fairway.dev/v1alpha1/namespaces/shop/consulimports/backends/status ") {
		t.Fatalf("wrote %v, %v: %q", wrote, err, a.asked)
	}
	_, body, _ := strings.Cut(a.asked[0], "/status ")
	var sent v1alpha1.ConsulImport
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		t.Fatal(err)
	}
	if c := sent.Status.Conditions; sent.ResourceVersion != "5" || !c[0].LastTransitionTime.Equal(&longAgo) || c[1].LastTransitionTime.Equal(&longAgo) ||
		c[0].ObservedGeneration != 2 || sent.Status.Imported[0].ConsulService != "Web_1" || sent.Status.NotImported[0].Reason != "NoPort" {
		t.Errorf("sent %+v", sent)
	}
	sent.UID, sent.ResourceVersion, sent.Generation = in.UID, "6", 2
	feed(t, s.rooms[""].imports.Update(&sent))
	if wrote, err := s.Tell(t.Context(), s.View(), status); wrote || err != nil {
		t.Errorf("the same again: wrote %v, %v", wrote, err)
	}
	status.Import.Name = "gone"
	if _, err := s.Tell(t.Context(), view, status); !errors.Is(err, ErrConflict) {
		t.Errorf("of one that is not there: %v", err)
	}
}
