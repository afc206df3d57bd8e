package consulimport_test

import (
	"fmt"
	"testing"

	"fairway.dev/fairway/internal/consulimport"
)

// A pass looks at everything: it must be quick when there is much.
func BenchmarkDecide(b *testing.B) {
	w := newWorld(pattern(".*"))
	var all []string
	for i := range 1000 {
		name := fmt.Sprintf("s%d", i)
		all = append(all, name)
		var instances []consulimport.Instance
		for n := range 20 {
			instances = append(instances, inst(n+1))
		}
		w.says(name, 10, instances...)
	}
	w.lists(all...)
	w.rest(b)
	in := w.input()
	for b.Loop() {
		consulimport.Decide(in, w.memory)
	}
}
