package process

import (
	"github.com/prometheus/client_golang/prometheus"

	"fairway.dev/fairway/internal/consul"
)

// ConsulUsage tells at each scrape what the process's requests to Consul met.
type ConsulUsage struct{ Usage func() consul.Usage }

func (ConsulUsage) descs() (requests, logins, expires *prometheus.Desc) {
	return prometheus.NewDesc("fairway_consul_requests_total",
			"Requests to Consul by result.", []string{"result"}, nil),
		prometheus.NewDesc("fairway_consul_logins_total",
			"Logins to Consul by result.", []string{"result"}, nil),
		prometheus.NewDesc("fairway_consul_token_expiry_timestamp_seconds",
			"When the token of the last login expires; no series if it does not, or comes from a file.", nil, nil)
}

// Describe is prometheus.Collector.
func (c ConsulUsage) Describe(out chan<- *prometheus.Desc) {
	requests, logins, expires := c.descs()
	out <- requests
	out <- logins
	out <- expires
}

// Collect is prometheus.Collector.
func (c ConsulUsage) Collect(out chan<- prometheus.Metric) {
	requests, logins, expires := c.descs()
	usage := c.Usage()
	count := func(desc *prometheus.Desc, n uint64, result string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), result)
	}
	for _, outcome := range consul.Outcomes() {
		count(requests, usage.Requests[outcome], string(outcome))
	}
	count(logins, usage.Logins, "ok")
	count(logins, usage.LoginsFailed, "error")
	if at := usage.TokenExpires; !at.IsZero() {
		out <- prometheus.MustNewConstMetric(expires, prometheus.GaugeValue, float64(at.UnixMilli())/1000)
	}
}
