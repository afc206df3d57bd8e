package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/kube/imports"
	"fairway.dev/fairway/internal/service"
)

func TestImportOptions(t *testing.T) {
	t.Parallel()
	if err := defaultImport().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for flag, spoil := range map[string]func(*ImportOptions){
		"--import-connections":    func(o *ImportOptions) { o.ImportConnections = 0 },
		"--import-max-loss-share": func(o *ImportOptions) { o.ImportMaxLossShare = 2 },
	} {
		bad := defaultImport()
		spoil(&bad)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: error %v does not name it", flag, err)
		}
	}
}

// What was decided and written can be counted; what is over is not counted any more.
func TestImportMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := newImportMetrics(registry)
	ready := func(status service.ConditionStatus) consulimport.Status {
		return consulimport.Status{Services: 2, Endpoints: 3, Conditions: []consulimport.Condition{{Type: consulimport.ConditionReady, Status: status}}}
	}
	m.decided(consulimport.Plan{
		Answers: make([]consulimport.Origin, 4), Listings: make([]consulimport.Where, 1),
		Statuses: []consulimport.Status{ready(service.ConditionTrue), ready(service.ConditionTrue), ready(service.ConditionUnknown)},
		Held:     []consulimport.Held{{Reason: consulimport.ReasonFrozen, Endpoints: 5}, {Reason: consulimport.ReasonFrozen, Endpoints: 2}},
	}, time.Unix(7, 0))
	for _, err := range []error{nil, imports.ErrConflict, &imports.Refused{}, errors.New("boom")} {
		m.wrote(kindSlice, err)
	}
	want := map[string]float64{
		"fairway_imports ready": 2, "fairway_imports unknown": 1, "fairway_import_services": 6, "fairway_import_endpoints": 9, "fairway_import_watched": 5,
		"fairway_import_held_endpoints Frozen": 7, "fairway_import_decided_timestamp_seconds": 7,
		"fairway_import_writes_total slice ok": 1, "fairway_import_writes_total slice conflict": 1,
		"fairway_import_writes_total slice refused": 1, "fairway_import_writes_total slice error": 1,
	}
	if diff := cmp.Diff(want, counted(t, registry)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m.decided(consulimport.Plan{}, time.Unix(8, 0))
	for _, over := range []string{"fairway_imports ready", "fairway_import_held_endpoints Frozen", "fairway_import_watched"} {
		if got := counted(t, registry)[over]; got != 0 {
			t.Errorf("%s is still %v", over, got)
		}
	}
}

// counted are the values that are not 0, by name and labels.
func counted(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			key := family.GetName()
			for _, label := range m.GetLabel() {
				key += fmt.Sprint(" ", label.GetValue())
			}
			if value := m.GetGauge().GetValue() + m.GetCounter().GetValue(); value != 0 {
				values[key] = value
			}
		}
	}
	return values
}
