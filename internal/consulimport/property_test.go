package consulimport_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"fairway.dev/fairway/internal/consulimport"
	"fairway.dev/fairway/internal/service"
)

var serviceNames = []string{"web", "Web", "web_api", "web.api", "db", "3scale", "___"}

// drawImports makes imports of all forms, whose names collide.
func drawImports(t *rapid.T) []consulimport.Import {
	var imports []consulimport.Import
	for i := range rapid.IntRange(1, 3).Draw(t, "imports") {
		in := consulimport.Import{
			Ref: consulimport.Ref{Namespace: rapid.SampledFrom([]string{"shop", "bank"}).Draw(t, "namespace"), Name: fmt.Sprint("imp", i)},
			UID: fmt.Sprint("u", i),
		}
		if rapid.Bool().Draw(t, "by name") {
			in.Names = rapid.SliceOfNDistinct(rapid.SampledFrom(serviceNames), 1, 4, rapid.ID[string]).Draw(t, "names")
		} else {
			in.Pattern = rapid.SampledFrom([]string{"web.*", "(?i)web", ".*", "("}).Draw(t, "pattern")
		}
		if rapid.IntRange(0, 3).Draw(t, "tagged") == 0 {
			in.Tags = []string{"a"}
		}
		in.Type = rapid.SampledFrom([]consulimport.Type{"", consulimport.ClusterIP, consulimport.Headless, consulimport.ExternalName}).Draw(t, "type")
		in.Template = rapid.SampledFrom([]string{"", "c-{service}"}).Draw(t, "template")
		in.Ports = rapid.SampledFrom([][]consulimport.ImportPort{nil, {{Port: 80}}, {{Name: "a"}, {Name: "b", Consul: "metrics"}}}).Draw(t, "ports")
		in.Retain = rapid.Bool().Draw(t, "retain")
		imports = append(imports, in)
	}
	return imports
}

func drawInstances(t *rapid.T, most int) []consulimport.Instance {
	return rapid.SliceOfN(rapid.Custom(drawInstance), 0, most).Draw(t, "instances")
}

func drawInstance(t *rapid.T) consulimport.Instance {
	in := inst(rapid.IntRange(1, 9).Draw(t, "address"))
	in.ID = fmt.Sprint(rapid.IntRange(0, 99).Draw(t, "id"))
	in.Health = rapid.SampledFrom([]service.Health{service.Passing, service.Passing, service.Warning, service.Critical}).Draw(t, "health")
	in.Port = rapid.SampledFrom([]uint16{8080, 8080, 8080, 9090, 0}).Draw(t, "port")
	in.Tags = rapid.SampledFrom([][]string{nil, {"a"}, {"b", "a"}}).Draw(t, "tags")
	in.Cluster = rapid.SampledFrom([]string{"", "", cluster, "there"}).Draw(t, "cluster")
	switch rapid.IntRange(0, 9).Draw(t, "form") {
	case 0:
		host(fmt.Sprint("h", in.ID))(&in)
	case 1:
		in.Address = netip.MustParseAddr("127.0.0.1")
	case 2:
		in.Tagged = map[string]netip.AddrPort{service.TaggedLANIPv6: netip.MustParseAddrPort("[fd00::" + in.ID + "]:8080")}
	case 3:
		in.Ports = map[string]uint16{"metrics": 9100}
	}
	return in
}

// drawAnswers lets Consul say something of every service, the same of each
// wherever it is asked.
func (w *world) drawAnswers(t *rapid.T, index uint64) {
	w.lists(rapid.Permutation(serviceNames).Draw(t, "listed")...)
	for _, name := range serviceNames {
		w.says(name, index, drawInstances(t, 12)...)
	}
}

// Whatever there was, in one pass there is what Consul has and what is
// asked for, once everything is proven and allowed; and then nothing is written.
func TestI6AnyWorldComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(drawImports(t)...)
		w.in.MaxShare = 1
		for round := range rapid.IntRange(1, 3).Draw(t, "rounds") {
			if round > 0 && rapid.Bool().Draw(t, "other imports") {
				w.in.Imports = drawImports(t)
			}
			w.drawAnswers(t, uint64(100+round))
			w.rest(t)
			w.sleep(consulimport.ConfirmAfter)
			for origin, answer := range w.in.Answers {
				answer.Asked = w.in.Now
				w.in.Answers[origin] = answer
			}
			w.rest(t)
			w.checkTwin(t)
		}
	})
}

// checkTwin compares every Service with what a simpler reading of Consul's
// answer makes of it.
func (w *world) checkTwin(t fataler) {
	for at, s := range w.services {
		i := slices.IndexFunc(w.in.Imports, func(in consulimport.Import) bool {
			return in.Ref == consulimport.Ref{Namespace: at.Namespace, Name: s.Import}
		})
		if i < 0 || w.in.Imports[i].Pattern == "(" || s.Type == consulimport.ExternalName {
			continue
		}
		in := w.in.Imports[i]
		name, _ := consulimport.ServiceName(in.Template, s.Origin.Name)
		means := slices.Contains(in.Names, s.Origin.Name) ||
			in.Pattern == ".*" || in.Pattern == "web.*" && strings.HasPrefix(s.Origin.Name, "web") || in.Pattern == "(?i)web" && strings.EqualFold(s.Origin.Name, "web")
		want := map[string]consulimport.State{}
		for _, inst := range w.in.Answers[s.Origin].Instances {
			if !means || name != at.Name {
				break // left over, and retained
			}
			if inst.Health == service.Critical || inst.Cluster == cluster || len(in.Tags) > 0 && !slices.Contains(inst.Tags, "a") {
				continue
			}
			addresses := []netip.AddrPort{netip.AddrPortFrom(inst.Address, inst.Port), inst.Tagged[service.TaggedLANIPv6]}
			for _, a := range addresses {
				text := twinPorts(in, inst, a.Port())
				if !a.Addr().IsValid() || a.Addr().IsLoopback() || text == "" {
					continue
				}
				state := consulimport.Ready
				if inst.Health == service.Warning && want[a.Addr().String()+text] != consulimport.Ready {
					state = consulimport.Spare
				}
				want[a.Addr().String()+text] = state
			}
		}
		have := map[string]consulimport.State{}
		for _, slice := range w.slices {
			if slice.Ref.Namespace != at.Namespace || slice.Service != at.Name {
				continue
			}
			for _, e := range slice.Endpoints {
				text := ""
				for _, p := range slice.Ports {
					text += fmt.Sprintf(" %s:%d", p.Name, p.Port)
				}
				if _, twice := have[e.Address.String()+text]; twice {
					t.Fatalf("%s%s is there twice", e.Address, text)
				}
				have[e.Address.String()+text] = e.State
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Fatalf("Service %s (-want +have):\n%s", at, diff)
		}
	}
}

func twinPorts(in consulimport.Import, inst consulimport.Instance, port uint16) string {
	switch {
	case len(in.Ports) == 0 && port != 0:
		return fmt.Sprintf(" :%d", port)
	case len(in.Ports) == 1:
		if port == 0 {
			port = 80
		}
		return fmt.Sprintf(" :%d", port)
	case len(in.Ports) == 2:
		text := ""
		if port != 0 {
			text = fmt.Sprintf(" a:%d", port)
		}
		if n := inst.Ports["metrics"]; n != 0 {
			text += fmt.Sprintf(" b:%d", n)
		}
		return text
	}
	return ""
}

// Consul loses its mind in all ways, and Fairway its memory: what passes in
// truth stays. Consul never shows it otherwise, for that would be its word.
func TestI1NothingHealthyDisappears(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(pattern(".*"), with(names("b"), func(in *consulimport.Import) { in.Ref.Name, in.Template = "second", "second-{service}" }))
		truth := map[string][]consulimport.Instance{}
		var all []string
		for _, name := range []string{"a", "b", "c"} {
			for i := range rapid.IntRange(1, 4).Draw(t, "instances") {
				truth[name] = append(truth[name], inst(i+1))
			}
			w.says(name, 1000, truth[name]...)
			all = append(all, name)
		}
		w.lists(all...)
		w.rest(t)
		before := w.snapshot()
		index := uint64(999)
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			for _, name := range all {
				read := consulimport.Read{Asked: w.in.Now, Index: index}
				part := truth[name][:rapid.IntRange(0, len(truth[name])).Draw(t, "part")]
				switch rapid.IntRange(0, 6).Draw(t, "answer of "+name) {
				case 0:
					read = consulimport.Read{}
				case 1:
					read.Problem = "500"
				case 2:
					read.Filtered, read.Index = true, 2000
				case 3:
					read.Stale, read.Index = true, 2000
				case 4: // wiped, once more
					index--
				case 5:
					part, read.Index = truth[name], 2000
				case 6: // nothing, once
					part, read.Index = nil, 2000
					if w.in.Answers[consulimport.Origin{Name: name}].Instances == nil {
						part = truth[name]
					}
				}
				w.in.Answers[consulimport.Origin{Name: name}] = consulimport.Answer{Read: read, Instances: part}
			}
			w.lists(all[:rapid.IntRange(0, 3).Draw(t, "listed")]...)
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				w.memory = consulimport.Memory{}
			}
			w.pass(t)
			w.sleep(time.Duration(rapid.IntRange(0, 10).Draw(t, "seconds")) * time.Second)
			w.pass(t)
			if diff := cmp.Diff(before, w.snapshot()); diff != "" {
				t.Fatalf("(-before +after):\n%s", diff)
			}
		}
	})
}

// snapshot is what clients see of all Services.
func (w *world) snapshot() map[string]string {
	seen := map[string]string{}
	for at := range w.services {
		seen[at.Name] = w.has(at.Name)
	}
	return seen
}

// However a service grows and shrinks, an endpoint that does not change stays in
// its slice, no slice has more than a hundred, and what is added alone costs as
// few writes as it can.
func TestUnchangedEndpointsDoNotMove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(names("web"))
		present := map[int]bool{}
		for round := range rapid.IntRange(1, 6).Draw(t, "rounds") {
			from := rapid.IntRange(1, 350).Draw(t, "from")
			count := rapid.IntRange(1, 350).Draw(t, "count")
			step := rapid.IntRange(1, 5).Draw(t, "step")
			add := rapid.IntRange(0, 2).Draw(t, "add") > 0 || len(present) == 0
			added := 0
			for i := from; i < from+count; i += step {
				if add && !present[i] {
					present[i] = true
					added++
				} else if !add {
					delete(present, i)
				}
			}
			if len(present) == 0 {
				present[1], added = true, 1
			}
			var instances []consulimport.Instance
			for _, i := range slices.Sorted(maps.Keys(present)) {
				instances = append(instances, inst(i))
			}
			before := w.places()
			room := len(w.slices)*100 - len(before)
			w.says("web", uint64(10+round), instances...)
			plan := w.pass(t)
			after := w.places()
			if len(after) != len(present) {
				t.Fatalf("%d endpoints, want %d", len(after), len(present))
			}
			for address, slice := range before {
				if now, stays := after[address]; stays && now != slice {
					t.Fatalf("%s moved from %s to %s", address, slice, now)
				}
			}
			if round > 0 && add {
				least := (max(added-room, 0) + 99) / 100
				if n := len(plan.Ops); n > least+len(before)/100+1 && n > least+w.partlyFull(before) {
					t.Fatalf("%d writes for %d new endpoints", n, added)
				}
			}
		}
	})
}

// places says in which slice each endpoint is.
func (w *world) places() map[netip.Addr]string {
	in := map[netip.Addr]string{}
	for _, s := range w.slices {
		for _, e := range s.Endpoints {
			in[e.Address] = s.Ref.Name
		}
	}
	return in
}

// partlyFull is how many slices had room.
func (w *world) partlyFull(places map[netip.Addr]string) int {
	size := map[string]int{}
	for _, slice := range places {
		size[slice]++
	}
	n := 0
	for _, s := range size {
		if s < 100 {
			n++
		}
	}
	return n
}

// Equal input gives an equal plan, in whatever order it is listed, and nothing
// of it is changed: it may be the cache of those who watch.
func TestTheInputIsOnlyRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(drawImports(t)...)
		w.drawAnswers(t, 100)
		w.rest(t)
		w.drawAnswers(t, rapid.SampledFrom([]uint64{50, 101}).Draw(t, "index"))
		options := cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})}
		in, same := w.input(), w.input()
		copied := copyOf(in)
		plan, _ := consulimport.Decide(in, w.memory)
		if diff := cmp.Diff(copied, in, options); diff != "" {
			t.Fatalf("the input was changed:\n%s", diff)
		}
		same.Imports = rapid.Permutation(in.Imports).Draw(t, "imports")
		again, _ := consulimport.Decide(same, w.memory) // objects come in the order of a map
		if diff := cmp.Diff(plan, again, options); diff != "" {
			t.Fatalf("two plans for one world:\n%s", diff)
		}
	})
}

// copyOf shares nothing with the input that a decision could change.
func copyOf(in consulimport.Input) consulimport.Input {
	in.Imports = slices.Clone(in.Imports)
	for i := range in.Imports {
		in.Imports[i].Names, in.Imports[i].Ports = slices.Clone(in.Imports[i].Names), slices.Clone(in.Imports[i].Ports)
	}
	in.Answers = maps.Clone(in.Answers)
	for origin, a := range in.Answers {
		a.Instances = slices.Clone(a.Instances)
		in.Answers[origin] = a
	}
	in.Services, in.Slices = slices.Clone(in.Services), slices.Clone(in.Slices)
	for i := range in.Services {
		in.Services[i].Ports = slices.Clone(in.Services[i].Ports)
	}
	for i := range in.Slices {
		in.Slices[i].Endpoints, in.Slices[i].Ports = slices.Clone(in.Slices[i].Endpoints), slices.Clone(in.Slices[i].Ports)
	}
	return in
}
