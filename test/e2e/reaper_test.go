package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"fairway.dev/fairway/internal/consul/consultest"
	"fairway.dev/fairway/internal/service"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
)

// The shortest times that fairway-reaper takes.
const (
	deadAfter    = 30 * time.Second
	answerWithin = deadAfter / 2
	lookEvery    = 2 * time.Second // follows from these
)

// reaper is fairway-reaper as a service of a Consul server's machine.
type reaper struct {
	host  *cluster.Host
	stop  cluster.Undo
	began time.Time
}

// startReaper runs fairway-reaper on the host of a Consul server, with the rights that
// the docs name and no more, until the end of the test.
func startReaper(t *testing.T, host string, flags ...string) reaper {
	t.Helper()
	set, err := images.Ensure(bounded(t), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	acl, write := fleet.consul[0].ACL(), new(api.WriteOptions).WithContext(bounded(t))
	policy, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: fmt.Sprintf("reaper-%d", time.Now().UnixNano()), Rules: consultest.ReaperRules}, write)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := acl.TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, write)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token.SecretID), 0o600); err != nil {
		t.Fatal(err)
	}
	process := &cluster.Process{
		Host: host, Name: "reaper", Address: "127.0.0.1:9983",
		Args: append([]string{set.Reaper, "--consul-token-file=" + file, "--dead-after=" + deadAfter.String(), "--answer-within=" + answerWithin.String()}, flags...),
	}
	stop, err := fleet.lab.Run(bounded(t), process)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		undone(t, stop)
		if log, err := os.ReadFile(fleet.lab.Log(process)); t.Failed() {
			t.Logf("the reaper on %s says: %v\n%s", host, err, log)
		}
	})
	return reaper{fleet.lab.Host(process.Host), stop, time.Now()}
}

func (r reaper) ask(ctx context.Context, path string) (string, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: r.host.Dial, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9983"+path, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// wrote is how often it has put a question ("ask"), or turned a lease critical
// ("expire").
func (r reaper) wrote(t *testing.T, op string) (times int) {
	t.Helper()
	said, err := r.ask(bounded(t), "/metrics")
	_, value, found := strings.Cut(said, fmt.Sprintf("fairway_reaper_writes_total{op=%q,result=\"ok\"} ", op))
	if _, scanErr := fmt.Sscan(value, &times); err != nil || !found || scanErr != nil {
		t.Fatalf("%v, %v:\n%s", err, scanErr, said)
	}
	return times
}

// waitSays waits until the reaper says all of the words at a path.
func (r reaper) waitSays(t *testing.T, path string, words ...string) {
	t.Helper()
	until(t, "the reaper says "+strings.Join(words, ", "), func(ctx context.Context) (bool, string, error) {
		said, err := r.ask(ctx, path)
		for _, word := range words {
			if !strings.Contains(said, word) {
				return false, said, err
			}
		}
		return true, said, err
	})
}

// portsShut: clusters whose agents cannot be reached at their ports live on their
// answers in Consul, whatever else there has been.
func (p *pair) portsShut(t *testing.T) {
	until(t, "a cluster of which nothing was heard would be dead", func(context.Context) (bool, string, error) {
		return time.Since(p.deaf.began) > deadAfter+answerWithin, "", nil
	})
	if asked, expired := p.deaf.wrote(t, "ask"), p.deaf.wrote(t, "expire"); asked < 4 || expired > 0 {
		t.Errorf("%d questions to two clusters, %d leases expired", asked, expired)
	}
	undone(t, p.deaf.stop)
}

// clusterDies: what a cluster has published that is gone, all of it, is hidden, also
// from who has imported it; whatever else there is stays as it is. Two reapers look,
// and one of them writes. When the cluster is back so is what it has published,
// without anybody's help.
func (p *pair) clusterDies(t *testing.T) {
	names := map[string]int{p.web: 4, p.hand: 9, p.pod: 2}
	ns := namespace(t)
	web, hand := importer{p.east, t, ns, p.web}, importer{p.east, t, ns, p.hand}
	for _, in := range []importer{web, hand} {
		in.create(importOf(in.name))
		in.waitAddresses("those of the other cluster and of the VM", stands(t, in.name).addresses(p.east.of))
	}
	reapers := []reaper{startReaper(t, "consul-2"), startReaper(t, "consul-3")}
	for _, r := range reapers {
		r.waitSays(t, "/metrics", `fairway_reaper_clusters{state="Alive"} 2`)
	}
	before := map[string]standings{}
	for name, n := range names {
		before[name] = serving(t, name, n)
	}
	othersUntouched := func() {
		t.Helper()
		for name := range names {
			before[name].but(p.west.of).untouched(t, name)
		}
	}

	died := time.Now()
	var undo []cluster.Undo
	for _, host := range append(p.west.lab.Nodes(), "cp") {
		back, err := p.west.lab.CutLink(bounded(t), host)
		undo = append(undo, begun(t, back, err))
	}
	for name := range names {
		waitStandings(t, name, "clients are given nothing of the cluster that is dead", func(now standings) bool {
			return len(now.addresses(p.east.of)) == len(now.but(p.west.of).addresses(p.east.of))
		})
	}
	took := time.Since(died)
	t.Logf("hidden %s after it died", took.Round(time.Millisecond))
	if took < deadAfter-2*lookEvery || took > 2*deadAfter {
		t.Errorf("it was taken for dead after %s", took)
	}
	p.west.expiredOnce(t, reapers)
	hand.waitAddresses("the VM", before[p.hand].but(p.west.of).addresses(p.east.of))
	web.waitAddresses("none", nil)
	othersUntouched()
	p.purged(t)
	othersUntouched()

	for _, back := range undo {
		undone(t, back)
	}
	back := time.Now()
	for name, n := range names {
		serving(t, name, n)
	}
	t.Logf("served again %s after it is back", time.Since(back).Round(time.Millisecond))
	othersUntouched()
	hand.waitAddresses("all again", before[p.hand].addresses(p.east.of))
	web.waitAddresses("all again", before[p.web].addresses(p.east.of))
}

// expiredOnce: all reapers say that the cluster is dead, and each of its leases was
// turned critical by one of them.
func (s side) expiredOnce(t *testing.T, reapers []reaper) {
	t.Helper()
	expired := 0
	for _, r := range reapers {
		r.waitSays(t, "/readyz", "cluster "+s.lab.ClusterID()+" is expired")
		expired += r.wrote(t, "expire")
	}
	q := &api.QueryOptions{RequireConsistent: true, NodeMeta: map[string]string{service.MetaCluster: s.lab.ClusterID()}}
	nodes, _, err := fleet.consul[0].Catalog().Nodes(q.WithContext(bounded(t)))
	if err != nil || expired != len(nodes) {
		t.Errorf("%d leases were turned critical, of %d virtual nodes, %v", expired, len(nodes), err)
	}
}

// purged: of a cluster that is hidden everything may go, of a service of it that is
// asked for that service goes; what is in service elsewhere stays.
func (p *pair) purged(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(p.west.lab.ConsulToken(cluster.CatalogToken)), 0o600); err != nil {
		t.Fatal(err)
	}
	fairway := p.east.shell(t)
	purge := []string{"purge", "--cluster", p.west.lab.ClusterID(), "--consul-token-file", token}
	fairway.eventually(1, []string{"clients are not given it", ", 0 to keep; nothing was changed"}, purge...)
	fairway.eventually(0, []string{"removed 4, kept 0"}, append(purge, "--filter", fmt.Sprintf("Service == %q", p.hand), "--apply")...)
}
