package agent

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/drain"
	"fairway.dev/fairway/internal/gate"
	"fairway.dev/fairway/internal/registration"
)

// metrics of the agent's loops. No label has values that users choose.
type metrics struct {
	synced           prometheus.Gauge
	pods             *prometheus.GaugeVec
	entries          *prometheus.GaugeVec
	dueSince         *prometheus.GaugeVec
	publishSeconds   *prometheus.HistogramVec
	ops              *prometheus.CounterVec
	opSeconds        *prometheus.HistogramVec
	passSeconds      prometheus.Histogram
	registryRead     prometheus.Gauge
	observeFailures  prometheus.Counter
	confirmations    *prometheus.CounterVec
	annotationErrors prometheus.Gauge
	gateWaiting      *prometheus.GaugeVec
	gateSince        *prometheus.GaugeVec
	gateOpened       prometheus.Counter
	gateWaitSeconds  prometheus.Histogram
	proofs           *prometheus.CounterVec
	serversAnswered  prometheus.Gauge
	conditionWrites  *prometheus.CounterVec
	audits           *prometheus.CounterVec
	differing        prometheus.Gauge
	frozen           prometheus.Gauge
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
			Name: "fairway_entries", Help: "Registry entries: desired (what the pods declare), observed (ours, in the registry), due (not known to be in or out of service as the pod asks), failing (the last write failed and is tried again), refused (not taken), held (ours, of pods that are neither there nor proven gone), replaced (ours, kept until another is in service), foreign (not ours)."}, []string{"state"}),
		dueSince: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_entries_due_since_timestamp_seconds", Help: "Since when the oldest of the due entries is due; no series if none is."}, []string{"change"}),
		publishSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fairway_publish_seconds", Help: "Time from an instance being seen to enter or leave service until the registry had taken that.", Buckets: waits}, []string{"change"}),
		ops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_registry_ops_total", Help: "Writes to the registry by op and result."}, []string{"op", "result"}),
		opSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fairway_registry_op_seconds", Help: "Duration of a write to the registry.", Buckets: fine}, []string{"op"}),
		passSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_publisher_pass_seconds", Help: "Duration of one turn of the publisher, from looking at the pods to starting the writes.", Buckets: fine}),
		registryRead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_registry_read_timestamp_seconds", Help: "When the registry was last read; 0 if never."}),
		observeFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_observe_failures_total", Help: "Passes in which the registry could not be read, so that nothing was changed."}),
		confirmations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_confirmations_total", Help: "Questions to the API server whether a pod is gone, by result."}, []string{"result"}),
		annotationErrors: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_annotation_errors", Help: "Pods of the node with annotations that cannot be understood."}),
		gateWaiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_gate_waiting", Help: "Pods whose gate is not open, by what they wait for."}, []string{"reason"}),
		gateSince: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_gate_waiting_since_timestamp_seconds", Help: "Since when the pod that waits longest has been ready but for its gate, by what it waits for; no series if none does."}, []string{"reason"}),
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
		frozen: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_removals_frozen", Help: "Removals that wait for more evidence, because there are too many at once."}),
		serversAnswered: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_servers_answered_timestamp_seconds", Help: "When the servers last gave a usable answer; 0 if never."}),
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
	reg.MustRegister(m.synced, m.pods, m.entries, m.dueSince, m.publishSeconds, m.ops, m.opSeconds, m.passSeconds,
		m.registryRead, m.observeFailures, m.confirmations, m.annotationErrors, m.gateWaiting, m.gateSince, m.gateOpened,
		m.gateWaitSeconds, m.proofs, m.serversAnswered, m.conditionWrites, m.audits, m.differing, m.frozen, m.drainWaiting, m.drains,
		m.drainSeconds, m.callsRefused, m.katalogEntries, m.katalogRemoved)
	m.begin()
	return m
}

// begin makes every series with a known label, at zero: what happens for the
// first time is an increase only if there was a value before.
func (m *metrics) begin() {
	for _, kind := range []registration.Kind{registration.Register, registration.SetHealth, registration.Deregister, renew, push} {
		m.ops.WithLabelValues(string(kind), resultOK)
		m.ops.WithLabelValues(string(kind), resultError)
		m.opSeconds.WithLabelValues(string(kind))
	}
	for vec, values := range map[*prometheus.CounterVec][]string{
		m.confirmations:   {"gone", "present", "unknown"},
		m.proofs:          {string(gate.Passing), string(gate.Different), string(gate.Absent), "unknown"},
		m.audits:          {"same", "different", "unknown"},
		m.conditionWrites: {resultOK, resultError},
		m.drains:          {"out", "not-confirmed", "broken-off"},
	} {
		for _, value := range values {
			vec.WithLabelValues(value)
		}
	}
	for vec, values := range map[*prometheus.GaugeVec][]string{
		m.pods:         {"all", "declared", "gated"},
		m.entries:      {"desired", "observed", "due", "failing", "refused", "held", "replaced", "foreign"},
		m.gateWaiting:  gate.Reasons(),
		m.drainWaiting: {drain.WaitingForAgent, drain.WaitingForRegistry, drain.StillAtServers, drain.WaitingForServers},
	} {
		for _, value := range values {
			vec.WithLabelValues(value)
		}
	}
	for _, direction := range []string{publishIn, publishOut} {
		m.publishSeconds.WithLabelValues(direction)
	}
}

// publishing says what /readyz says.
func publishing(board *board) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairway_publishing", Help: "1 if pods can be published, as /readyz says; 0 while nothing is published and nothing taken away.",
	}, func() float64 {
		if board.why() != "" {
			return 0
		}
		return 1
	})
}

// The values of the label change.
const (
	publishIn  = "in"
	publishOut = "out"
)

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
		if proof.Finding != gate.Unknown {
			m.serversAnswered.SetToCurrentTime()
		}
		m.proofs.WithLabelValues(cmp.Or(string(proof.Finding), "unknown")).Inc()
	}
}

func (m *metrics) op(kind registration.Kind, took time.Duration, err error) {
	m.ops.WithLabelValues(string(kind), result(err)).Inc()
	m.opSeconds.WithLabelValues(string(kind)).Observe(took.Seconds())
}
