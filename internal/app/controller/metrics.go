package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/nodelease"
)

// metrics of the controller's loops. No label has values that users choose.
type metrics struct {
	leading       prometheus.Gauge
	ready         prometheus.Gauge
	nodes         *prometheus.GaugeVec
	nodeWrites    *prometheus.CounterVec
	kubeletsHeard prometheus.Gauge
	leasesRead    prometheus.Gauge
}

const (
	resultOK    = "ok"
	resultError = "error"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		leading: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_controller_leading", Help: "1 if this replica leads: it alone writes."}),
		ready: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_controller_ready", Help: "1 if the replica sees all that it decides from, whether it leads or not."}),
		nodes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairway_nodes", Help: "Nodes of the cluster, by how they stand."}, []string{"state"}),
		nodeWrites: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairway_node_writes_total", Help: "Writes to Consul about nodes, by what was done and result."}, []string{"op", "result"}),
		kubeletsHeard: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_kubelets_heard_timestamp_seconds", Help: "When a renewal of any kubelet's Lease was last seen; 0 if never."}),
		leasesRead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairway_node_leases_read_timestamp_seconds", Help: "When the leases of all virtual nodes were last read; 0 if never."}),
	}
	reg.MustRegister(m.leading, m.ready, m.nodes, m.nodeWrites, m.kubeletsHeard, m.leasesRead)
	// What happens for the first time is an increase only if there was a value
	// before.
	for _, op := range []nodelease.Act{nodelease.Ask, nodelease.Expire, nodelease.Remove} {
		for _, result := range []string{resultOK, resultError} {
			m.nodeWrites.WithLabelValues(string(op), result)
		}
	}
	return m
}

// stand counts the nodes by how they stand.
func (m *metrics) stand(plan nodelease.Plan) {
	counts := map[nodelease.Reason]int{}
	for _, d := range plan.Decisions {
		counts[d.Reason]++
	}
	for _, reason := range nodelease.Reasons() {
		m.nodes.WithLabelValues(string(reason)).Set(float64(counts[reason]))
	}
}
