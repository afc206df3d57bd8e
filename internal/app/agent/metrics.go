package agent

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
)

// metrics of the agent's loops. No label has values that users choose.
type metrics struct {
	synced           prometheus.Gauge
	pods             *prometheus.GaugeVec
	entries          *prometheus.GaugeVec
	ops              *prometheus.CounterVec
	opSeconds        *prometheus.HistogramVec
	passSeconds      prometheus.Histogram
	observeFailures  prometheus.Counter
	confirmations    *prometheus.CounterVec
	annotationErrors prometheus.Gauge
	gateWaiting      *prometheus.GaugeVec
	gateOpened       prometheus.Counter
	gateWaitSeconds  prometheus.Histogram
	proofs           *prometheus.CounterVec
	conditionWrites  *prometheus.CounterVec
	audits           *prometheus.CounterVec
	differing        prometheus.Gauge
	drainWaiting     *prometheus.GaugeVec
	drains           *prometheus.CounterVec
	drainSeconds     prometheus.Histogram
	callsRefused     prometheus.Counter
	katalogEntries   *prometheus.GaugeVec
	katalogRemoved   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	fine := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	waits := []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
	m := &metrics{
		synced: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_source_synced", Help: "1 if the picture of the node's pods is complete."}),
		pods: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_pods", Help: "Pods of the node: all, declared (publish a service), gated (have Fairway's readiness gate)."}, []string{"state"}),
		entries: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_entries", Help: "Registry entries: desired (what the pods declare), observed (ours, in the registry), held (ours, of pods that are neither there nor proven gone), replaced (ours, kept until another is in service), foreign (not ours)."}, []string{"state"}),
		ops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_registry_ops_total", Help: "Writes to the registry by op and result."}, []string{"op", "result"}),
		opSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fairway_registry_op_seconds", Help: "Duration of a write to the registry.", Buckets: fine}, []string{"op"}),
		passSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_publisher_pass_seconds", Help: "Duration of one turn of the publisher, from looking at the pods to starting the writes.", Buckets: fine}),
		observeFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_observe_failures_total", Help: "Passes in which the registry could not be read, so that nothing was changed."}),
		confirmations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_confirmations_total", Help: "Questions to the API server whether a pod is gone, by result."}, []string{"result"}),
		annotationErrors: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_annotation_errors", Help: "Pods of the node with annotations that cannot be understood."}),
		gateWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_gate_waiting", Help: "Pods whose gate is not open, by what they wait for."}, []string{"reason"}),
		gateOpened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_gate_opened_total", Help: "Gates opened."}),
		gateWaitSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_gate_wait_seconds", Help: "Time from a pod's containers being seen ready to its gate being open.", Buckets: waits}),
		proofs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_proofs_total", Help: "Answers of the servers about an instance, by finding."}, []string{"finding"}),
		audits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_audits_total", Help: "Comparisons of what the servers hold with what the registry holds for them, by result."}, []string{"result"}),
		differing: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_entries_differing", Help: "Entries that the servers did not hold as the registry does when they were last compared."}),
		conditionWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_condition_writes_total", Help: "Writes of pod conditions by result."}, []string{"result"}),
		drainWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_drain_waiting", Help: "Pods that wait for being confirmed out of service, by what they wait for."}, []string{"reason"}),
		drains: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_drains_total", Help: "Drains that pods asked for, by how they ended."}, []string{"result"}),
		drainSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_drain_seconds", Help: "Time from a pod's question until it was confirmed out of service.", Buckets: waits}),
		callsRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_calls_refused_total", Help: "Calls to the agent that did not show which pod speaks."}),
		katalogEntries: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_katalog_entries", Help: "Entries between katalog-sync and Fairway, by how they stand."}, []string{"state"}),
		katalogRemoved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_katalog_removed_total", Help: "Removals of entries that katalog-sync left behind, by result."}, []string{"result"}),
	}
	reg.MustRegister(m.synced, m.pods, m.entries, m.ops, m.opSeconds, m.passSeconds, m.observeFailures,
		m.confirmations, m.annotationErrors, m.gateWaiting, m.gateOpened, m.gateWaitSeconds, m.proofs, m.conditionWrites,
		m.audits, m.differing, m.drainWaiting, m.drains, m.drainSeconds, m.callsRefused,
		m.katalogEntries, m.katalogRemoved)
	for _, kind := range []registration.Kind{registration.Register, registration.SetHealth, registration.Deregister, renew, push} {
		m.ops.WithLabelValues(string(kind), resultOK)
		m.ops.WithLabelValues(string(kind), resultError)
	}
	return m
}

// The values of the label result.
const (
	resultOK    = "ok"
	resultError = "error"
)

func result(err error) string {
	if err != nil {
		return resultError
	}
	return resultOK
}

// proven counts answers of the servers.
func (m *metrics) proven(proofs map[string]gate.Proof) {
	for _, proof := range proofs {
		m.proofs.WithLabelValues(cmp.Or(string(proof.Finding), "unknown")).Inc()
	}
}

func (m *metrics) op(kind registration.Kind, took time.Duration, err error) {
	m.ops.WithLabelValues(string(kind), result(err)).Inc()
	m.opSeconds.WithLabelValues(string(kind)).Observe(took.Seconds())
}
