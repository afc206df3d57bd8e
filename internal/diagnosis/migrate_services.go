package diagnosis

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/purge"
)

// SyncNode is the Consul node under which consul-k8s puts what it syncs, if it is
// not told another.
const SyncNode = "k8s-sync"

// ServiceMigrationFacts is all that MigrateServices looks at.
type ServiceMigrationFacts struct {
	// Syncs are the Deployments that run consul-k8s' catalog sync.
	Syncs []Sync
	// Installed tells whether there is a Deployment of Fairway's controller, in
	// Namespace, and Exporting whether it publishes Services.
	Installed, Exporting bool
	Namespace            string
	// Node is the Consul node that the entries of consul-k8s stand under, and Entries
	// says of each whether clients would miss it.
	Node    string
	Entries []purge.Decision
}

// Sync is a Deployment that runs consul-k8s' catalog sync.
type Sync struct {
	Name     string // namespace/name
	Replicas int32  // that are asked for
	Settings SyncSettings
}

// ServiceMigrationReport is the answer of MigrateServices.
type ServiceMigrationReport struct {
	Headline string    `json:"headline"`
	Sections []Section `json:"sections"`
	// Values are those of the chart with which Fairway publishes what consul-k8s
	// does; none if it is not to be seen what that does.
	Values  []Value          `json:"values,omitempty"`
	Entries []purge.Decision `json:"entries,omitempty"`
	Next    string           `json:"next"`
}

// Fine tells whether nothing is in the way, and whether all could be found out.
func (r ServiceMigrationReport) Fine() (fine, known bool) {
	return InstallationReport{Sections: r.Sections}.Fine()
}

// MigrateServices says how far a change from consul-k8s' catalog sync to Fairway is,
// what is in its way, what will be different, and what the next step is.
func MigrateServices(in ServiceMigrationFacts) ServiceMigrationReport {
	report := ServiceMigrationReport{Entries: in.Entries}
	running := slices.DeleteFunc(slices.Clone(in.Syncs), func(s Sync) bool { return s.Replicas == 0 })
	sections := []Section{in.programs(), in.settings(&report), in.entries()}
	report.Sections = slices.DeleteFunc(sections, func(s Section) bool { return len(s.Findings) == 0 })
	report.Headline, report.Next = in.next(report, running)
	return report
}

// programs says which of the two runs.
func (in ServiceMigrationFacts) programs() Section {
	s := Section{Title: "programs"}
	for _, sync := range in.Syncs {
		if sync.Replicas == 0 {
			s.add(OK, "SyncStopped", "", "the Deployment %s of consul-k8s' catalog sync has no replicas", sync.Name)
			continue
		}
		s.add(OK, "SyncRuns", "", "the Deployment %s runs consul-k8s' catalog sync", sync.Name)
	}
	if len(in.Syncs) == 0 {
		s.add(OK, "SyncAway", "", "no Deployment runs consul-k8s' catalog sync")
	}
	switch {
	case !in.Installed:
		s.add(OK, "ControllerAway", "", "Fairway's controller is not installed in namespace %s", in.Namespace)
	case !in.Exporting:
		s.add(OK, "NotExporting", "", "Fairway's controller runs, and publishes no Services")
	default:
		s.add(OK, "Exporting", "", "Fairway's controller publishes Services")
	}
	return s
}

// settings says what of consul-k8s' settings Fairway does not have.
func (in ServiceMigrationFacts) settings(report *ServiceMigrationReport) Section {
	s := Section{Title: "settings"}
	if len(in.Syncs) > 1 {
		s.add(Note, "SeveralSyncs", "", "the values below are those of %s; there are %d", in.Syncs[0].Name, len(in.Syncs))
	}
	if len(in.Syncs) == 0 {
		return s
	}
	settings := in.Syncs[0].Settings
	report.Values = settings.Values
	for _, note := range settings.Notes {
		s.add(Note, "Different", "", "%s", note)
	}
	return s
}

// entries says how many entries clients would miss.
func (in ServiceMigrationFacts) entries() Section {
	s := Section{Title: "entries"}
	counts := map[purge.Reason]int{}
	missed := map[string]int{}
	for _, d := range in.Entries {
		counts[d.Reason]++
		if d.Reason == purge.InService {
			missed[d.Entry.Service]++
		}
	}
	if n := counts[purge.Covered]; n > 0 {
		s.add(OK, "Covered", "", "%s of %s: Fairway gives clients the same", plural(n, "entry", "entries"), in.Node)
	}
	if n := counts[purge.NotGiven]; n > 0 {
		s.add(OK, "NotGiven", "", "%s of %s: no client is given it", plural(n, "entry", "entries"), in.Node)
	}
	if n := counts[purge.NotKubernetes] + counts[purge.AgentKeeps]; n > 0 {
		s.add(Note, "NotTheirs", "", "%s of %s: not of consul-k8s", plural(n, "entry", "entries"), in.Node)
	}
	state, remedy := Note, ""
	if in.Exporting {
		state, remedy = Problem, "publish it with Fairway too (docs/services.md), or live without it: fairway purge --node "+in.Node+" --in-service"
	}
	for _, name := range slices.Sorted(maps.Keys(missed)) {
		s.add(state, "Missed", remedy, "service %s: %s of consul-k8s that Fairway does not give clients", name, plural(missed[name], "entry", "entries"))
	}
	return s
}

// next is where the change stands, and the next step.
func (in ServiceMigrationFacts) next(r ServiceMigrationReport, running []Sync) (headline, next string) {
	_, blocked := first(r.Sections, Problem)
	switch {
	case !in.Installed && len(in.Entries) == 0 && len(in.Syncs) == 0:
		return "there is nothing of consul-k8s' catalog sync", "nothing to do"
	case !in.Installed:
		return "nothing is in the way", "install Fairway with the values below (docs/install.md)"
	case len(in.Entries) == 0 && len(running) == 0:
		return "Fairway has taken the place of consul-k8s' catalog sync", "nothing to do"
	case !in.Exporting:
		return "Fairway does not publish Services yet", fmt.Sprintf("helm upgrade fairway deploy/chart -n %s --reset-then-reuse-values -f FILE, with the values below in FILE", in.Namespace)
	case blocked:
		return "Fairway does not publish all that consul-k8s does", "settle what stands above as a problem, and look again"
	case len(running) > 0:
		namespace, name, _ := strings.Cut(running[0].Name, "/")
		return "Fairway stands beside consul-k8s for every entry", fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=0", namespace, name)
	}
	return "consul-k8s' catalog sync is gone, and what it left is not", "fairway purge --node " + in.Node + " --apply"
}

// Value is a value of Fairway's chart.
type Value struct {
	Path  string `json:"path"` // with dots
	Value any    `json:"value"`
}

// SyncSettings are what consul-k8s' catalog sync is told, in Fairway's words.
type SyncSettings struct {
	Node   string  // the Consul node of its entries
	Values []Value // of the chart, but for what is the default
	Notes  []string
}

// ReadSync reads the command line of consul-k8s' catalog sync: words of its
// container's command and args, which may be a shell script. It is not ok if they
// are of something else.
func ReadSync(words []string) (settings SyncSettings, ok bool) {
	tokens := strings.FieldsFunc(strings.Join(words, " "), func(r rune) bool { return strings.ContainsRune(" \t\n\\", r) })
	start := slices.Index(tokens, "sync-catalog")
	if start < 0 {
		return SyncSettings{}, false
	}
	flags := map[string][]string{}
	for _, token := range tokens[start+1:] {
		name, value, given := strings.Cut(token, "=")
		if !strings.HasPrefix(name, "-") {
			continue
		}
		if !given {
			value = "true"
		}
		name = strings.TrimLeft(name, "-")
		flags[name] = append(flags[name], strings.Trim(value, `"'`))
	}
	return syncFlags(flags).settings(), true
}

// syncFlags are flags of consul-k8s' catalog sync with their values.
type syncFlags map[string][]string

// last is the value that counts of a flag.
func (f syncFlags) last(name, byDefault string) string {
	if values := f[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return byDefault
}

func (f syncFlags) settings() SyncSettings {
	s := SyncSettings{Node: f.last("consul-node-name", SyncNode)}
	set := func(path string, value any) {
		s.Values = append(s.Values, Value{"controller.export." + path, value})
	}
	note := func(format string, args ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, args...)) }
	if f.last("to-consul", "true") == "false" {
		note("consul-k8s does not sync to Consul (-to-consul=false): there is nothing to publish")
	} else {
		set("enabled", true)
		f.selection(set)
		f.kinds(set, note)
		note("the tag %s is not added; a Service's own tags are (service-tags)", f.last("consul-k8s-tag", "k8s"))
	}
	if f.last("to-k8s", "true") != "false" {
		note("services of Consul come to Kubernetes where a ConsulImport asks for them, not by themselves (docs/import.md)")
	}
	for _, name := range []string{"enable-namespaces", "consul-destination-namespace", "enable-k8s-namespace-mirroring", "partition"} {
		if len(f[name]) > 0 {
			note("-%s has no counterpart: Fairway publishes in the default namespace of Consul", name)
		}
	}
	return s
}

// selection is which Services are published, and how they are called.
func (f syncFlags) selection(set func(string, any)) {
	if f.last("k8s-default-sync", "true") == "true" {
		set("all", true)
	}
	allow := f["allow-k8s-namespace"]
	if source := f.last("k8s-source-namespace", ""); source != "" {
		allow = []string{source}
	}
	if len(allow) > 0 && !slices.Contains(allow, "*") {
		set("namespaces", allow)
	}
	if deny := f["deny-k8s-namespace"]; !slices.Equal(slices.Sorted(slices.Values(deny)), []string{"kube-public", "kube-system"}) {
		set("exceptNamespaces", slices.Clip(append([]string{}, deny...)))
	}
	name := f.last("consul-service-prefix", "") + "{name}"
	if f.last("add-k8s-namespace-suffix", "") == "true" {
		name += "-{namespace}"
	}
	if name != "{name}" {
		set("name", name)
	}
}

// kinds is what is published of which kind of Service.
func (f syncFlags) kinds(set func(string, any), note func(string, ...any)) {
	if f.last("sync-clusterip-services", "true") == "false" {
		set("clusterIP", "off")
		set("headless", "off")
	}
	if f.last("sync-lb-services-endpoints", "") == "true" {
		set("loadBalancer", "endpoints")
	}
	addresses := map[string]string{"ExternalOnly": "external", "InternalOnly": "internal"}
	if address := addresses[cmp.Or(f.last("node-port-sync-type", ""), "ExternalOnly")]; address != "" {
		set("nodeAddress", address)
	}
	set("externalName", "off")
	if f.last("enable-ingress", "") == "true" {
		set("ingress", true)
		if f.last("loadBalancer-ips", "") == "true" {
			note("of an Ingress the host is published, not the addresses of its load balancer (-loadBalancer-ips)")
		}
	}
}
