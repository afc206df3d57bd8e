package diagnosis_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/internal/nodeview"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/internal/succession"
)

// katalogPod is one of a user of katalog-sync, ready.
func katalogPod(name string, annotations ...string) service.Pod {
	pod := service.Pod{
		Ref: service.PodRef{Namespace: "shop", Name: name, UID: "uid-" + name},
		Annotations: map[string]string{
			"katalog-sync.wish.com/service-names": "web", "katalog-sync.wish.com/service-port": "8080",
			"katalog-sync.wish.com/service-tags": "v1", "katalog-sync.wish.com/service-meta": "team:shop",
		},
		Addresses: []netip.Addr{netip.MustParseAddr("198.18.64.1")},
		Phase:     service.PhaseRunning, ContainersReady: true,
	}
	for i := 0; i < len(annotations); i += 2 {
		pod.Annotations["katalog-sync.wish.com/"+annotations[i]] = annotations[i+1]
	}
	return pod
}

// katalogEntry is what katalog-sync has registered for it.
func katalogEntry(name string, change func(*diagnosis.Listed)) diagnosis.Listed {
	listed := diagnosis.Listed{
		Entry: registration.Entry{HasCheck: true, Instance: service.Instance{
			ID: "katalog-sync_web_shop_" + name, Name: "web", Pod: service.PodRef{Namespace: "shop", Name: name},
			Address: netip.MustParseAddr("198.18.64.1"), Port: 8080, Tags: []string{"v1"}, Health: service.Passing,
			Meta: map[string]string{"external-sync-source": "katalog-sync", "external-k8s-pod": name, "team": "shop"},
		}},
		Given: true,
	}
	if change != nil {
		change(&listed)
	}
	return listed
}

func migration(pod service.Pod, entries ...diagnosis.Listed) diagnosis.MigrationFacts {
	return diagnosis.MigrationFacts{
		Namespace: "fairway-system", Katalog: []string{"kube-system/katalog-sync"},
		Pods:     []diagnosis.Placed{{Pod: pod, Node: "n1"}},
		Listings: []diagnosis.Listing{{Service: "web", Entries: entries}},
	}
}

// told is a node's agent that runs in a mode, with entries that stand so.
func told(mode succession.Mode, states ...succession.State) func(*diagnosis.MigrationFacts) {
	return func(f *diagnosis.MigrationFacts) {
		f.Installed, f.Mode = true, mode
		view := nodeview.View{Node: "n1", Succession: &nodeview.Succession{Mode: string(mode)}}
		for i, state := range states {
			view.Succession.Entries = append(view.Succession.Entries, nodeview.Handover{
				ID: fmt.Sprintf("katalog-sync_web_shop_web-%d", i), Service: "web", Pod: nodeview.PodRef{Namespace: "shop", Name: fmt.Sprintf("web-%d", i)}, State: string(state), Reason: "because",
			})
		}
		f.Agents = []diagnosis.NodeAgent{{Node: "n1", AgentFacts: diagnosis.AgentFacts{View: &view}}}
	}
}

func back(f *diagnosis.MigrationFacts)        { f.Back = true }
func noEntries(f *diagnosis.MigrationFacts)   { f.Listings[0].Entries = nil }
func katalogAway(f *diagnosis.MigrationFacts) { f.Katalog = nil }

func TestMigrateStages(t *testing.T) {
	const (
		begin  = "helm upgrade fairway deploy/chart -n fairway-system --reuse-values --set katalogSync=take-over"
		settle = "settle what stands above as a problem, and look again"
	)
	type change = func(*diagnosis.MigrationFacts)
	tests := []struct {
		name           string
		changes        []change
		headline, next string
		fine, known    bool
	}{
		{"before", nil, "nothing is in the way", "install Fairway with --set katalogSync=take-over (docs/install.md)", true, true},
		{"Fairway runs apart", []change{told(succession.Apart)}, "nothing is in the way", begin, true, true},
		{"both run", []change{told(succession.Successor, succession.Covered)}, "Fairway stands beside katalog-sync for every entry",
			"kubectl -n kube-system delete daemonset katalog-sync", true, true},
		{"not covered", []change{told(succession.Successor, succession.Covered, succession.Uncovered)},
			"under way, and something is in the way", settle, false, true},
		{"an agent was not told yet", []change{told(succession.Successor), noEntries, func(f *diagnosis.MigrationFacts) { f.Agents[0].View.Succession = nil }},
			"under way, and something is in the way", settle, false, true},
		{"an agent cannot be asked", []change{told(succession.Successor), func(f *diagnosis.MigrationFacts) { f.Agents[0].View = nil }},
			"not everything could be found out", "look again when the agents and Consul answer", false, false},
		{"Consul does not say", []change{func(f *diagnosis.MigrationFacts) {
			f.Listings[0] = diagnosis.Listing{Service: "web", Problem: "no leader"}
		}},
			"not everything could be found out", "look again when the agents and Consul answer", false, false},
		{"on a node without an agent", []change{told(succession.Successor), func(f *diagnosis.MigrationFacts) {
			f.Listings[0].Entries = []diagnosis.Listed{katalogEntry("web-0", nil)}
		}}, "under way, and something is in the way", settle, false, true},
		{"it runs under another name", []change{told(succession.Successor, succession.Covered), katalogAway},
			"Fairway stands beside katalog-sync for every entry", "remove what runs katalog-sync; if that is done, look again in a minute", true, true},
		{"katalog-sync is gone", []change{told(succession.Successor, succession.Superfluous), katalogAway},
			"katalog-sync is gone, and what it left is being removed", "look again", true, true},
		{"done", []change{told(succession.Successor), katalogAway, noEntries}, "Fairway has taken katalog-sync's place",
			"nothing to do; keep katalogSync=take-over as long as pods have the gate katalog-sync.wish.com/synced", true, true},

		{"back, not told", []change{back, told(succession.Successor)}, "Fairway was not told to hand back",
			"helm upgrade fairway deploy/chart -n fairway-system --reuse-values --set katalogSync=hand-back", true, true},
		{"back, katalog-sync is not there", []change{back, katalogAway, told(succession.Predecessor, succession.Kept)},
			"Fairway is ready to hand back", "install katalog-sync again", false, true},
		{"back, not all", []change{back, told(succession.Predecessor, succession.Kept, succession.Yielded)},
			"under way, and something is in the way", settle, false, true},
		{"back, all", []change{back, told(succession.Predecessor, succession.Yielded)}, "all is handed back",
			"helm uninstall fairway -n fairway-system", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			facts := migration(katalogPod("web-0"), katalogEntry("web-0", nil))
			for _, change := range tt.changes {
				change(&facts)
			}
			report := diagnosis.Migrate(facts)
			fine, known := report.Fine()
			if report.Headline != tt.headline || report.Next != tt.next || fine != tt.fine && known || known != tt.known {
				t.Errorf("%q, next %q, fine %v, known %v\n%+v", report.Headline, report.Next, fine, known, report.Sections)
			}
		})
	}
}

// What will be different is said before it is.
func TestMigrateFindings(t *testing.T) {
	tests := []struct {
		name  string
		pod   service.Pod
		entry func(*diagnosis.Listed)
		want  []string // of the problems and notes
	}{
		{"nothing", katalogPod("web-0"), nil, nil},
		{"no port", katalogPod("web-0", "service-port", ""), nil, []string{
			`problem pod shop/web-0: service web: the pod's annotations are not understood, or it has no address yet`,
			`problem pod shop/web-0: katalog-sync.wish.com/service-port`,
		}},
		{"another port", katalogPod("web-0"), func(l *diagnosis.Listed) { l.Instance.Port = 9090 }, []string{
			"problem pod shop/web-0: service web: katalog-sync gives port 9090, Fairway 8080",
		}},
		{"another health", func() service.Pod {
			pod := katalogPod("web-0")
			pod.Gates = []service.Gate{{Type: "example.com/lb"}}
			return pod
		}(), nil, []string{
			"problem pod shop/web-0: service web: katalog-sync calls it passing, Fairway critical: readiness gate example.com/lb is not open",
		}},
		{"tags and meta", katalogPod("web-0"), func(l *diagnosis.Listed) {
			l.Instance.Tags = []string{"v1", " v2"}
			delete(l.Instance.Meta, "team")
		}, []string{
			"note pod shop/web-0: service web: the meta will differ in team",
			`note pod shop/web-0: service web: the tags are ["v1" " v2"] now and will be ["v1"]`,
		}},
		{"gate and sidecar", func() service.Pod {
			pod := katalogPod("web-0", "sidecar", "sync", "service-health", "warning")
			pod.Containers = []service.Container{{Name: "app", Ready: true}, {Name: "sync", Ready: true}}
			pod.Gates = []service.Gate{{Type: service.GateKatalog, Open: true}}
			return pod
		}(), func(l *diagnosis.Listed) { l.Instance.Health = service.Warning }, []string{
			"problem pod shop/web-0: the gate never opens while service-health keeps service web at warning",
			"note pod shop/web-0: the gate katalog-sync.wish.com/synced is opened by Fairway only with katalogSync=take-over",
			"note pod shop/web-0: container sync asks katalog-sync's RPC",
		}},
		{"a long TTL", katalogPod("web-0", "service-check-ttl", "1h"), nil, []string{
			"note pod shop/web-0: what katalog-sync has registered stays passing for 1h0m0s when katalog-sync has gone",
		}},
		{"of another cluster", katalogPod("web-1"), nil, []string{
			"note 1 entry of katalog-sync is of pods that this cluster does not have: of another cluster, or left behind",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			report := diagnosis.Migrate(migration(tt.pod, katalogEntry("web-0", tt.entry)))
			var got []string
			for _, section := range report.Sections {
				for _, f := range section.Findings {
					if f.State != diagnosis.OK {
						got = append(got, string(f.State)+" "+f.Text)
					}
				}
			}
			for i := range min(len(got), len(tt.want)) {
				if strings.HasPrefix(got[i], tt.want[i]) {
					got[i] = tt.want[i]
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A hundred pods with the same trouble are one line.
func TestMigrateGroups(t *testing.T) {
	facts := migration(katalogPod("web-0", "service-tags", "a,,b"))
	facts.Pods = append(facts.Pods, diagnosis.Placed{Pod: katalogPod("web-1", "service-tags", "a,,b")})
	report := diagnosis.Migrate(facts)
	last := report.Sections[len(report.Sections)-1].Findings
	if len(last) != 2 || !strings.HasPrefix(last[1].Text, "2 pods, such as shop/web-0: katalog-sync.wish.com/service-tags") {
		t.Errorf("%+v", last)
	}
}
