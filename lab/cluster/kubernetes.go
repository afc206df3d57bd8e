package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// etcdURL is only reachable on the control plane itself.
const (
	etcdAddress = "127.0.0.1:2379"
	etcdURL     = "http://" + etcdAddress
)

// apiAddress is where the lab's own clients talk to the API server, straight.
func (c *Cluster) apiAddress() string {
	return netip.AddrPortFrom(c.Host(controlPlane).Addr, apiPort).String()
}

func (c *Cluster) apiURL() string { return "https://" + c.apiAddress() }

// startControlPlane returns when the API server serves, with the other two just started.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	etcd := &Process{Host: controlPlane, Name: "etcd", Address: etcdAddress, Args: []string{
		c.bin("etcd"),
		"--data-dir=" + c.path(controlPlane, "etcd"),
		"--listen-client-urls=" + etcdURL,
		"--advertise-client-urls=" + etcdURL,
		"--listen-peer-urls=http://127.0.0.1:2380",
		// A lab's data may be lost with the machine. Not waiting for the disk makes all of it faster.
		"--unsafe-no-fsync",
	}}
	api := &Process{Host: controlPlane, Name: apiServer, Address: c.apiAddress(), Args: c.apiServerArgs()}
	for _, p := range []*Process{etcd, api} {
		if err := c.start(p); err != nil {
			return err
		}
	}
	if err := c.awaitServers(ctx, "the API server", []*Process{api, etcd}, c.apiReady); err != nil {
		return err
	}
	for _, p := range []*Process{c.controllerManager(), c.scheduler()} {
		if err := c.start(p); err != nil {
			return err
		}
	}
	return nil
}

// apiReady asks the API server whether it is ready. One that only takes connections
// refuses what others need to start, and they end.
func (c *Cluster) apiReady(ctx context.Context) error {
	kube, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	return kube.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

func (c *Cluster) apiServerArgs() []string {
	cp := c.Host(controlPlane)
	return []string{
		c.bin("kube-apiserver"),
		"--etcd-servers=" + etcdURL,
		"--bind-address=" + cp.Addr.String(),
		fmt.Sprintf("--secure-port=%d", apiPort),
		// The Service "kubernetes" leads to the fault proxy, and so does every service account's client.
		"--advertise-address=" + cp.Extra.String(),
		"--service-cluster-ip-range=" + c.servicePrefix().String(),
		"--tls-cert-file=" + c.cert("kube-apiserver"),
		"--tls-private-key-file=" + c.key("kube-apiserver"),
		"--client-ca-file=" + c.cert("ca"),
		// There are no aggregated servers, but the other components wait for this authority to be known.
		"--requestheader-client-ca-file=" + c.cert("front-proxy-ca"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.key("service-accounts"),
		"--service-account-signing-key-file=" + c.key("service-accounts"),
		"--kubelet-client-certificate=" + c.cert("kubelet-client"),
		"--kubelet-client-key=" + c.key("kubelet-client"),
		"--kubelet-certificate-authority=" + c.cert("ca"),
		"--kubelet-preferred-address-types=InternalIP",
	}
}

func (c *Cluster) controllerManager() *Process {
	config := c.kubeconfig("kube-controller-manager")
	return &Process{Host: controlPlane, Name: "kube-controller-manager", Address: "127.0.0.1:10257", Args: []string{
		c.bin("kube-controller-manager"),
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--use-service-account-credentials=true",
		"--service-account-private-key-file=" + c.key("service-accounts"),
		"--root-ca-file=" + c.cert("ca"),
		"--cluster-signing-cert-file=" + c.cert("ca"),
		"--cluster-signing-key-file=" + c.key("ca"),
		"--leader-elect=false",
	}}
}

func (c *Cluster) scheduler() *Process {
	config := c.kubeconfig("kube-scheduler")
	return &Process{Host: controlPlane, Name: "kube-scheduler", Address: "127.0.0.1:10259", Args: []string{
		c.bin("kube-scheduler"),
		"--kubeconfig=" + config,
		"--authentication-kubeconfig=" + config,
		"--authorization-kubeconfig=" + config,
		"--leader-elect=false",
	}}
}

// Kubeconfig is the path of the administrator's kubeconfig. It is of use inside the lab's hosts only.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig("admin") }

func (c *Cluster) kubeconfig(user string) string { return c.path("pki", user+".kubeconfig") }

func (c *Cluster) writeKubeconfig(user string, ca []byte, pair keyPair) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["lab"] = &clientcmdapi.Cluster{Server: c.apiURL(), CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
	config.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: user}
	config.CurrentContext = "lab"
	return clientcmd.WriteToFile(*config, c.kubeconfig(user))
}

// RESTConfig is the administrator's access to the API server, dialled from the client host. It has no
// rate limit: what tests measure should be the servers.
func (c *Cluster) RESTConfig() *rest.Config { return rest.CopyConfig(c.admin) }

func (c *Cluster) readAdmin() error {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.Dial = c.Host(clientHost).Dial
	config.QPS = -1
	// What a test sees late, it times wrongly: protobuf costs a fraction of JSON to read.
	config.ContentType = runtime.ContentTypeProtobuf
	c.admin = config
	return nil
}

// Kubectl runs kubectl on the client host as administrator and returns what it printed.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return runCmd(c.KubectlCommand(ctx, args...))
}

// KubectlCommand prepares kubectl for use on a terminal.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := c.Host(clientHost).Command(ctx, c.bin("kubectl"), args...)
	cmd.Env = append(cmd.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return cmd
}

// Helm runs Helm on the client host as administrator and returns what it printed.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	cmd := c.Host(clientHost).Command(ctx, c.bin("helm"), args...)
	home := c.path(clientHost, "helm")
	cmd.Env = append(cmd.Environ(), "KUBECONFIG="+c.Kubeconfig(),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	return runCmd(cmd)
}
