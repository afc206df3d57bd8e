package agent

import "github.com/prometheus/client_golang/prometheus"

// sourceCollector tells at each scrape what the sources of pods say of
// themselves.
type sourceCollector struct{ sources []source }

func (sourceCollector) descs() (live, heard, pods *prometheus.Desc) {
	labels := []string{"source"}
	return prometheus.NewDesc("fairway_source_live",
			"1 if the source of pods answers; what it said last stands if not.", labels, nil),
		prometheus.NewDesc("fairway_source_heard_timestamp_seconds",
			"When the source of pods last said anything, be it that nothing has changed.", labels, nil),
		prometheus.NewDesc("fairway_source_pods",
			"Pods that the source knows.", labels, nil)
}

// Describe is prometheus.Collector.
func (c sourceCollector) Describe(out chan<- *prometheus.Desc) {
	live, heard, pods := c.descs()
	out <- live
	out <- heard
	out <- pods
}

// Collect is prometheus.Collector.
func (c sourceCollector) Collect(out chan<- prometheus.Metric) {
	live, heard, pods := c.descs()
	gauge := func(desc *prometheus.Desc, value float64, source string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, source)
	}
	for _, s := range c.sources {
		state := s.State()
		answers := 0.0
		if state.Live {
			answers = 1
		}
		gauge(live, answers, s.name)
		gauge(pods, float64(len(state.Pods)), s.name)
		if !state.Heard.IsZero() {
			gauge(heard, float64(state.Heard.UnixMilli())/1000, s.name)
		}
	}
}
