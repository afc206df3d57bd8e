package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairway.dev/fairway/internal/image/gobuild"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// servicesBench measures a controller on the one node of a lab.
type servicesBench struct {
	lab       *cluster.Cluster
	kube      kubernetes.Interface
	servers   []*api.Client // one for each Consul server, for all who ask
	published *published
	program   string // path of the controller's binary
	folder    string // with what only this bench needs
}

// The files in servicesBench.folder: the controller's credentials.
const (
	controllerKubeconfig = "kubeconfig"
	controllerToken      = "consul-token"
)

func newServicesBench(ctx context.Context, lab *cluster.Cluster) (b *servicesBench, err error) {
	b = &servicesBench{lab: lab, servers: lab.ConsulServers()}
	if b.program, err = build(ctx, workload.ControllerName); err != nil {
		return nil, err
	}
	if b.kube, err = kubernetes.NewForConfig(lab.RESTConfig()); err != nil {
		return nil, err
	}
	b.published = &published{kube: b.kube, node: lab.Nodes()[0]}
	for _, id := range []string{"cp/kube-controller-manager", b.published.node + "/kube-proxy"} {
		if _, err := lab.Stop(ctx, id); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{workload.Namespace, servicesNamespace, importsNamespace} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := b.kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
			return nil, err
		}
	}
	if b.folder, err = os.MkdirTemp("", "bench-services-"); err != nil {
		return nil, err
	}
	err = b.giveRights(ctx)
	if err == nil {
		err = makeImports(ctx, lab)
	}
	if err != nil {
		_ = os.RemoveAll(b.folder)
		return nil, err
	}
	return b, nil
}

// giveRights gives the controller the rights that the chart does, and no others.
func (b *servicesBench) giveRights(ctx context.Context) error {
	checkout, err := gobuild.FindCheckout(ctx)
	if err != nil {
		return err
	}
	manifest, err := b.lab.Helm(ctx, "template", "fairway", filepath.Join(checkout.Root, "deploy", "chart"), "--namespace", workload.Namespace,
		"--set", "clusterID="+cluster.ClusterID, "--set", "registry=agent", "--set", "controller.consulAddress=http://consul.service.consul:8500",
		"--set", "controller.export.enabled=true", "--set", "controller.import.enabled=true",
		"--show-only", "templates/controller-rbac.yaml", "--show-only", "templates/import.yaml")
	if err != nil {
		return fmt.Errorf("render the controller's rights: %w", err)
	}
	if err := apply(ctx, b.lab, manifest); err != nil {
		return err
	}
	if _, err := b.lab.Kubectl(ctx, "wait", "--for=condition=Established", "crd/consulimports.fairway.dev", "--timeout=30s"); err != nil {
		return err
	}
	login, err := b.kube.CoreV1().ServiceAccounts(workload.Namespace).CreateToken(ctx, workload.ControllerName, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(24 * 60 * 60))},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("log in as the controller: %w", err)
	}
	config, err := clientcmd.LoadFromFile(b.lab.Kubeconfig())
	if err != nil {
		return err
	}
	for user := range config.AuthInfos {
		config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: login.Status.Token}
	}
	return errors.Join(
		clientcmd.WriteToFile(*config, filepath.Join(b.folder, controllerKubeconfig)),
		os.WriteFile(filepath.Join(b.folder, controllerToken), []byte(b.lab.ConsulToken(cluster.CatalogToken)), 0o600))
}

// apply applies a manifest as the administrator.
func apply(ctx context.Context, lab *cluster.Cluster, manifest string) error {
	cmd := lab.KubectlCommand(ctx, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apply a manifest: %w: %s", err, out)
	}
	return nil
}

func (b *servicesBench) startController() (*process, error) {
	return start(b.lab.Host(b.published.node), b.program, []string{
		"--cluster-id=" + cluster.ClusterID, "--export", "--import", "--nodes=false",
		"--kubeconfig=" + filepath.Join(b.folder, controllerKubeconfig), "--pod-namespace=" + workload.Namespace, "--pod-name=bench",
		"--consul-address=http://" + b.lab.Host("consul-1").Addr.String() + ":8500", "--consul-token-file=" + filepath.Join(b.folder, controllerToken),
	})
}

// measure measures one row. alone is what Consul writes by itself.
func (b *servicesBench) measure(ctx context.Context, n int, d time.Duration, alone logged) (row servicesRow, err error) {
	row = servicesRow{Services: n, EndpointsPerService: endpointsPerService, Imported: importedServices, Load: loadAverage()}
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%d Services: %s\n", n, fmt.Sprintf(format, args...))
	}
	if row.Floor, err = catalogFloor(ctx, b.lab, gatePods); err != nil {
		return row, err
	}
	say("floor %s ms; making them", row.Floor)
	if err := b.published.grow(ctx, n); err != nil {
		return row, err
	}
	process, err := b.startCold(ctx, &row)
	if err != nil {
		return row, err
	}
	defer func() { err = errors.Join(err, process.stop()) }()
	if err := settle(ctx, b.servers); err != nil {
		return row, err
	}
	say("cold sync %v ms, %v of it writing; changes", row.ColdSyncs, row.Sync)
	var dropped, droppedImports int
	if row.ChangeToVisible, dropped, err = b.exportChanges(ctx); err != nil {
		return row, err
	}
	say("change to visible %s ms; changes in Consul", row.ChangeToVisible)
	if row.ImportChange, droppedImports, err = b.importChanges(ctx); err != nil {
		return row, err
	}
	row.Dropped = dropped + droppedImports
	say("import of a change %s ms; at rest for %s", row.ImportChange, d)
	if err := settle(ctx, b.servers); err != nil {
		return row, err
	}
	before, err := b.apiWrites(ctx)
	if err != nil {
		return row, err
	}
	if row.atRest, err = rest(ctx, b.lab, process, d, alone); err != nil {
		return row, err
	}
	after, err := b.apiWrites(ctx)
	row.RestAPIWrites = after - before
	return row, err
}

// startCold times the start of the controller with Consul empty, several times.
// The last process runs on.
func (b *servicesBench) startCold(ctx context.Context, row *servicesRow) (*process, error) {
	var syncs []float64
	p, err := again(coldStarts, func() (*process, error) {
		p, cold, writing, err := b.coldStart(ctx)
		row.ColdSyncs, syncs = append(row.ColdSyncs, milliseconds(cold)), append(syncs, milliseconds(writing))
		return p, err
	})
	row.ColdSync, row.Sync = middle(row.ColdSyncs), middle(syncs)
	return p, err
}

func (b *servicesBench) coldStart(ctx context.Context) (p *process, cold, writing time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	server, err := timeline.Leader(ctx, b.servers)
	if err != nil {
		return nil, 0, 0, err
	}
	if err := removeNodes(ctx, server); err != nil {
		return nil, 0, 0, err
	}
	watch, err := watchSync(ctx, server)
	if err != nil {
		return nil, 0, 0, err
	}
	defer watch.stop()
	if p, err = b.startController(); err != nil {
		return nil, 0, 0, err
	}
	first, last, err := watch.await(ctx, endpointsPerService*b.published.n)
	if err != nil {
		return nil, 0, 0, errors.Join(err, p.stop())
	}
	return p, last.Sub(p.started), last.Sub(first), nil
}
