package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
)

// exportMetrics are those of the exporter. No label has values that users choose.
type exportMetrics struct {
	services     *prometheus.GaugeVec
	instances    *prometheus.GaugeVec
	frozen       prometheus.Gauge
	writes       *prometheus.CounterVec
	writeSeconds *prometheus.HistogramVec
	passSeconds  prometheus.Histogram
	readFailures prometheus.Counter
	readAt       prometheus.Gauge
	dueSince     prometheus.Gauge
	questions    *prometheus.CounterVec
}

// stateInvalid is the state of Services with annotations that are not understood,
// beside the verdicts.
const stateInvalid = "invalid"

func newExportMetrics(reg prometheus.Registerer) *exportMetrics {
	fine := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &exportMetrics{
		services: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_export_services", Help: "Services of the cluster, by whether they are published in Consul; invalid counts those with annotations that are not understood once more."}, []string{"state"}),
		instances: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_export_instances", Help: "Instances of Services: desired (asked for), observed (in Consul, ours), due (to be written), failing (the last write failed and is tried again), refused (not taken), held (ours, and not proven gone), replaced (ours, kept until another is in service), foreign (not ours)."}, []string{"state"}),
		frozen: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_export_removals_frozen", Help: "Removals of instances of Services that wait for more evidence, because there are too many at once."}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_export_writes_total", Help: "Writes of instances of Services to Consul, by op and result."}, []string{"op", "result"}),
		writeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "fairway_export_write_seconds", Help: "Duration of a write of an instance of a Service.", Buckets: fine}, []string{"op"}),
		passSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairway_export_pass_seconds", Help: "Duration of one turn of the exporter.", Buckets: fine}),
		readFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairway_export_read_failures_total", Help: "Reads of a shard that failed, so that nothing was changed there."}),
		readAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_export_read_timestamp_seconds", Help: "When the shard was read that was not read for longest; 0 if one is not known."}),
		dueSince: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_export_due_since_timestamp_seconds", Help: "Since when the write is due that has been for longest, but for those that are refused; 0 if none is."}),
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_export_questions_total", Help: "Questions to the API server about objects that a list lacked, or Services of which removals are frozen, by result."}, []string{"result"}),
	}
	reg.MustRegister(m.services, m.instances, m.frozen, m.writes, m.writeSeconds, m.passSeconds, m.readFailures,
		m.readAt, m.dueSince, m.questions)
	// What happens for the first time is an increase only if there was a value
	// before.
	for _, op := range []registration.Kind{registration.Register, registration.SetHealth, registration.Deregister} {
		m.writes.WithLabelValues(string(op), resultOK)
		m.writes.WithLabelValues(string(op), resultError)
		m.writeSeconds.WithLabelValues(string(op))
	}
	for _, result := range []string{questionAnswered, questionUnknown} {
		m.questions.WithLabelValues(result)
	}
	return m
}

func (m *exportMetrics) wrote(op registration.Kind, took time.Duration, err error) {
	result := resultOK
	if err != nil {
		result = resultError
	}
	m.writes.WithLabelValues(string(op), result).Inc()
	m.writeSeconds.WithLabelValues(string(op)).Observe(took.Seconds())
}

// count shows how much there is of what.
func (e *exporter) count(plan export.Plan, refused map[string]refusal) {
	m, count := e.metrics, e.ledger.Count()
	for _, verdict := range []export.Verdict{export.Published, export.Unpublished, export.Undecided} {
		m.services.WithLabelValues(string(verdict)).Set(float64(count.Services[verdict]))
	}
	m.services.WithLabelValues(stateInvalid).Set(float64(count.Invalid))
	for state, n := range map[string]int{
		"desired": count.Instances, "observed": count.Entries - plan.Foreign, "due": len(plan.Ops), "failing": len(e.failures),
		"refused": len(refused), "held": len(plan.Held), "replaced": len(plan.Replaced), "foreign": plan.Foreign,
	} {
		m.instances.WithLabelValues(state).Set(float64(n))
	}
	m.frozen.Set(float64(len(plan.Frozen)))
	read, due := time.Now(), time.Time{}
	for _, shard := range e.shards {
		read = earlier(read, shard.readAt)
	}
	m.readAt.Set(seconds(read))
	for id, since := range e.due {
		if _, is := refused[id]; !is && (due.IsZero() || since.Before(due)) {
			due = since
		}
	}
	m.dueSince.Set(seconds(due))
}

// seconds is a time as metrics have it; the zero time is 0.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}
