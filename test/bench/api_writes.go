package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// written are the resources that a controller may write, but for its Lease. At
// rest nobody else in the lab writes any of them.
var written = []string{"services", "endpointslices", "events", "consulimports"}

// apiWrites is how many requests to write them the API server has had so far.
func (b *servicesBench) apiWrites(ctx context.Context) (int, error) {
	metrics, err := b.kube.CoreV1().RESTClient().Get().AbsPath("/metrics").SetHeader("Accept", "text/plain").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the API server's metrics: %w", err)
	}
	return countWrites(string(metrics), written)
}

// countWrites sums up apiserver_request_total of requests that write one of the
// resources, or a part of it.
func countWrites(metrics string, resources []string) (n int, err error) {
	found := false
	for line := range strings.Lines(metrics) {
		series, ok := strings.CutPrefix(line, "apiserver_request_total{")
		if !ok {
			continue
		}
		found = true
		labels, value, _ := strings.Cut(series, "} ")
		if !slices.Contains(resources, label(labels, "resource")) ||
			!slices.Contains([]string{"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}, label(labels, "verb")) {
			continue
		}
		count, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return 0, fmt.Errorf("read the API server's metrics: %w", err)
		}
		n += int(count)
	}
	if !found {
		return 0, fmt.Errorf("the API server counts no requests")
	}
	return n, nil
}

// label is the value of a label, of those that hold no quotes.
func label(labels, name string) string {
	_, value, _ := strings.Cut(","+labels, ","+name+`="`)
	value, _, _ = strings.Cut(value, `"`)
	return value
}
