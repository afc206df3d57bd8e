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

// RegistryAgent is the registry with which the controller knows of no Consul servers.
const RegistryAgent = "agent"

// ServiceMigrationFacts is all that MigrateServices looks at.
type ServiceMigrationFacts struct {
	// Syncs are the Deployments that run consul-k8s' catalog sync.
	Syncs []Sync
	// Installed tells whether there is a Deployment of Fairway's controller, in
	// Namespace, and Exporting whether it publishes Services.
	Installed, Exporting bool
	// Registry is where Fairway's agents register pods, agent or catalog; empty if
	// there are none in Namespace.
	Registry  string
	Namespace string
	// Node is the Consul node that the entries of consul-k8s stand under, and Entries
	// says of each whether clients would miss it.
	Node    string
	Entries []purge.Decision
	// Empty tells that the node is still there, and nothing under it.
	Empty bool
	// Tagged are the Services, namespace/name, that ask for the tag of the sync.
	Tagged []string
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
	// does; none if it does already, or if it is not to be seen what that does.
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
	running := slices.DeleteFunc(slices.Clone(in.Syncs), func(s Sync) bool { return s.Replicas == 0 || !s.Settings.ToConsul })
	sections := []Section{in.programs(), in.settings(&report), in.tags(running), in.entries()}
	report.Sections = slices.DeleteFunc(sections, func(s Section) bool { return len(s.Findings) == 0 })
	if _, blocked := first(report.Sections, Problem); in.Exporting && !blocked {
		report.Values = nil
	}
	report.Headline, report.Next = in.next(report, running)
	return report
}

// programs says which of the two runs.
func (in ServiceMigrationFacts) programs() Section {
	s := Section{Title: "programs"}
	for _, sync := range in.Syncs {
		switch {
		case sync.Replicas == 0:
			s.add(OK, "SyncStopped", "", "the Deployment %s of consul-k8s' catalog sync has no replicas", sync.Name)
		case !sync.Settings.ToConsul:
			s.add(OK, "SyncToKubernetes", "", "the Deployment %s runs consul-k8s' catalog sync, not to Consul", sync.Name)
		default:
			s.add(OK, "SyncRuns", "", "the Deployment %s runs consul-k8s' catalog sync", sync.Name)
		}
	}
	if len(in.Syncs) == 0 {
		s.add(OK, "SyncAway", "", "no Deployment runs consul-k8s' catalog sync")
	}
	switch {
	case !in.Installed && in.Registry == "":
		s.add(OK, "FairwayAway", "", "Fairway is not installed in namespace %s", in.Namespace)
	case !in.Installed:
		s.add(OK, "ControllerAway", "", "Fairway's agents are installed in namespace %s, its controller is not", in.Namespace)
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
	if in.Registry == RegistryAgent && !in.Exporting {
		s.add(Note, "MoreRights", "", "with registry=agent the controller needs a token with more rights than the agents' (docs/registries.md), in controller.tokenSecret")
	}
	return s
}

// tags says which Services have a tag that a sync that runs takes for its own.
func (in ServiceMigrationFacts) tags(running []Sync) Section {
	s := Section{Title: "tags"}
	if len(running) == 0 {
		return s
	}
	tag := running[0].Settings.Tag
	for _, name := range in.Tagged {
		s.add(Problem, "TagOfSync", "take the tag from its annotations until consul-k8s' sync is stopped", "Service %s has the tag %s: consul-k8s takes out what has it and is not its own", name, tag)
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
	if n := counts[purge.InService]; n > 0 && !in.Exporting {
		s.add(OK, "Alone", "", "%s of %s, under %s: nobody else gives clients the same", plural(n, "entry", "entries"), in.Node, plural(len(missed), "name", "names"))
		return s
	}
	remedy := "fairway services says why; publish it (docs/services.md), or live without it: fairway purge --node " + in.Node + " --in-service"
	for _, name := range slices.Sorted(maps.Keys(missed)) {
		s.add(Problem, "Missed", remedy, "service %s: %s of consul-k8s that Fairway does not give clients", name, plural(missed[name], "entry", "entries"))
	}
	return s
}

// next is where the change stands, and the next step.
func (in ServiceMigrationFacts) next(r ServiceMigrationReport, running []Sync) (headline, next string) {
	_, blocked := first(r.Sections, Problem)
	switch {
	case !in.Installed && len(in.Entries) == 0 && len(in.Syncs) == 0:
		return "there is nothing of consul-k8s' catalog sync", "nothing to do"
	case blocked:
		return "something is in the way", "settle what stands above as a problem, and look again"
	case !in.Installed && in.Registry == "":
		return "nothing is in the way", "install Fairway with these values (docs/install.md)"
	case in.Empty && len(running) == 0:
		return "of consul-k8s' catalog sync its Consul node is left, with nothing under it", "fairway purge --node " + in.Node + " --apply"
	case len(in.Entries) == 0 && len(running) == 0:
		return "Fairway has taken the place of consul-k8s' catalog sync", "nothing to do"
	case !in.Exporting:
		return "Fairway does not publish Services yet", in.upgrade()
	case len(running) > 0:
		namespace, name, _ := strings.Cut(running[0].Name, "/")
		return "Fairway stands beside consul-k8s for every entry", fmt.Sprintf("kubectl -n %s scale deployment %s --replicas=0", namespace, name)
	}
	return "consul-k8s' catalog sync is gone, and what it left is not", "fairway purge --node " + in.Node + " --apply"
}

// upgrade is how Fairway, which is installed, is told to publish Services.
func (in ServiceMigrationFacts) upgrade() string {
	set, explain := "", ""
	if !in.Installed && in.Registry == RegistryAgent {
		set, explain = " --set controller.consulAddress=SERVERS", ", and for SERVERS the address of the Consul servers, http://HOST:8500"
	}
	return fmt.Sprintf("helm upgrade fairway deploy/chart -n %s --reset-then-reuse-values -f FILE%s, with these values in FILE%s", in.Namespace, set, explain)
}

// Value is a value of Fairway's chart.
type Value struct {
	Path  string `json:"path"` // with dots
	Value any    `json:"value"`
}

// SyncSettings are what consul-k8s' catalog sync is told, in Fairway's words.
type SyncSettings struct {
	Node string // the Consul node of its entries
	Tag  string // of all of them
	// ToConsul is false if it syncs from Consul to Kubernetes at most.
	ToConsul bool
	Values   []Value // of the chart, but for what is the default
	Notes    []string
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
	s := SyncSettings{Node: f.last("consul-node-name", SyncNode), Tag: f.last("consul-k8s-tag", "k8s"), ToConsul: f.last("to-consul", "true") != "false"}
	set := func(path string, value any) {
		s.Values = append(s.Values, Value{"controller.export." + path, value})
	}
	note := func(format string, args ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, args...)) }
	if !s.ToConsul {
		note("consul-k8s does not sync to Consul (-to-consul=false): there is nothing to publish")
	} else {
		set("enabled", true)
		f.selection(set)
		f.kinds(set, note)
		note("the tag %s is not added; a Service's own tags are (service-tags)", s.Tag)
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
