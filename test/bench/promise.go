package main

import "fmt"

// promise bounds a figure of a row.
type promise struct {
	what      string
	got, most float64
}

// missed names the promises that a row did not keep.
func missed(row string, promises []promise) []string {
	var missed []string
	for _, p := range promises {
		if p.got > p.most {
			missed = append(missed, fmt.Sprintf("%s: %s is %.4g, should be %.4g or less", row, p.what, p.got, p.most))
		}
	}
	return missed
}
