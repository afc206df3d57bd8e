package controller

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/kube/imports"
	"fairway.dev/fairway/internal/service"
)

// importMetrics are those of the importer.
type importMetrics struct {
	imports   *prometheus.GaugeVec
	services  prometheus.Gauge
	endpoints prometheus.Gauge
	watched   prometheus.Gauge
	held      *prometheus.GaugeVec
	writes    *prometheus.CounterVec
	pass      prometheus.Gauge
}

const (
	resultConflict = "conflict"
	resultRefused  = "refused"
)

// importStates are the names of an import's state, by the status of its condition
// Ready.
func importStates() map[service.ConditionStatus]string {
	return map[service.ConditionStatus]string{
		service.ConditionTrue: "ready", service.ConditionFalse: "not-ready", service.ConditionUnknown: "unknown",
	}
}

func newImportMetrics(reg prometheus.Registerer) *importMetrics {
	m := &importMetrics{
		imports: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_imports", Help: "ConsulImports, by their condition Ready."}, []string{"state"}),
		services: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_import_services", Help: "Services that stand for services of Consul."}),
		endpoints: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_import_endpoints", Help: "Ready endpoints of these Services."}),
		watched: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_import_watched", Help: "Questions that Consul is asked all the time: services, and lists of them."}),
		held: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_import_held_endpoints", Help: "Endpoints that stay though Consul does not show them, or is not known, by why."}, []string{"reason"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_import_writes_total", Help: "Writes to the API server, by kind of object and result."}, []string{"object", "result"}),
		pass: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_import_decided_timestamp_seconds", Help: "When it was last decided what is to be imported; 0 if never."}),
	}
	reg.MustRegister(m.imports, m.services, m.endpoints, m.watched, m.held, m.writes, m.pass)
	for _, kind := range []string{kindService, kindSlice, kindStatus} {
		for _, result := range []string{resultOK, resultConflict, resultRefused, resultError} {
			m.writes.WithLabelValues(kind, result)
		}
	}
	return m
}

// decided shows a plan.
func (m *importMetrics) decided(plan consulimport.Plan, now time.Time) {
	m.pass.Set(float64(now.UnixMilli()) / 1000)
	m.watched.Set(float64(len(plan.Answers) + len(plan.Listings)))
	held := map[string]int{
		consulimport.ReasonNotConfirmed: 0, consulimport.ReasonIndexWentBack: 0, consulimport.ReasonFrozen: 0, consulimport.ReasonSourceUnknown: 0,
	}
	for _, h := range plan.Held {
		held[h.Reason] += h.Endpoints
	}
	for reason, n := range held {
		m.held.WithLabelValues(reason).Set(float64(n))
	}
	states := map[service.ConditionStatus]int{}
	services, endpoints := 0, 0
	for _, s := range plan.Statuses {
		services, endpoints = services+s.Services, endpoints+s.Endpoints
		for _, c := range s.Conditions {
			if c.Type == consulimport.ConditionReady {
				states[c.Status]++
			}
		}
	}
	for status, state := range importStates() {
		m.imports.WithLabelValues(state).Set(float64(states[status]))
	}
	m.services.Set(float64(services))
	m.endpoints.Set(float64(endpoints))
}

// wrote counts a write.
func (m *importMetrics) wrote(kind string, err error) {
	result := resultOK
	if _, refused := errors.AsType[*imports.Refused](err); refused {
		result = resultRefused
	} else if errors.Is(err, imports.ErrConflict) {
		result = resultConflict
	} else if err != nil {
		result = resultError
	}
	m.writes.WithLabelValues(kind, result).Inc()
}
