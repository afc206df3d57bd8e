package main

import (
	"fmt"
	"strings"
)

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
			missed = append(missed, fmt.Sprintf("%s: %s is %v, should be %v or less", row, p.what, p.got, p.most))
		}
	}
	return missed
}

// kept is an error if promises were missed.
func kept(missed []string) error {
	if len(missed) == 0 {
		return nil
	}
	return fmt.Errorf("promises missed:\n%s", strings.Join(missed, "\n"))
}
