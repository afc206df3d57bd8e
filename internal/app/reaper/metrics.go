package reaper

import (
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/clusterlease"
)

const (
	opAsk    = "ask"
	opExpire = "expire"

	resultOK       = "ok"
	resultConflict = "conflict"
	resultError    = "error"
)

// metrics of the reaper. No label has values that users choose.
type metrics struct {
	clusters *prometheus.GaugeVec
	writes   *prometheus.CounterVec
	read     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		clusters: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_reaper_clusters", Help: "Clusters that have virtual nodes in Consul, by how they stand."}, []string{"state"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_reaper_writes_total", Help: "Writes to Consul about leases, by what was done and result."}, []string{"op", "result"}),
		read: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_reaper_read_timestamp_seconds", Help: "When the leases of all clusters were last read; 0 if never."}),
	}
	reg.MustRegister(m.clusters, m.writes, m.read)
	for _, op := range []string{opAsk, opExpire} {
		for _, result := range []string{resultOK, resultConflict, resultError} {
			m.writes.WithLabelValues(op, result)
		}
	}
	return m
}

// stand counts the clusters by how they stand.
func (m *metrics) stand(stood map[string]clusterlease.Decision) {
	counts := map[clusterlease.State]int{}
	for _, d := range stood {
		counts[d.State]++
	}
	for _, state := range clusterlease.States() {
		m.clusters.WithLabelValues(string(state)).Set(float64(counts[state]))
	}
}
