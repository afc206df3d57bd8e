package cluster

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"net/netip"
	"path/filepath"
	"text/template"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/images"
)

//go:embed config
var configFiles embed.FS

// cniPlugins is where Debian's containernetworking-plugins puts them.
const cniPlugins = "/usr/lib/cni"

// nodeConfig is what the files below config/ are made from.
type nodeConfig struct {
	*Host
	Kubernetes                        string
	Dir, CgroupName, PodBridge        string
	CNIPlugins, PauseImage            string
	ContainerdSocket, ProxyKubeconfig string
	CACert, KubeletCert, KubeletKey   string
	KubeletPort                       int
	ClusterDNS                        []netip.Addr
}

func (c *Cluster) nodeConfig(h *Host) nodeConfig {
	config := nodeConfig{
		Host:             h,
		Kubernetes:       c.Kubernetes,
		Dir:              c.path(h.Name),
		CgroupName:       h.Namespace,
		PodBridge:        podBridge,
		CNIPlugins:       cniPlugins,
		PauseImage:       images.PauseRef,
		ContainerdSocket: c.containerdSocket(h.Name),
		ProxyKubeconfig:  c.kubeconfig("kube-proxy"),
		CACert:           c.cert("ca"),
		KubeletCert:      c.cert("kubelet-" + h.Name),
		KubeletKey:       c.key("kubelet-" + h.Name),
		KubeletPort:      kubeletPort,
	}
	if c.DNS {
		config.ClusterDNS = []netip.Addr{c.serviceDNS()}
	}
	return config
}

// resolvers answer the hosts' questions by DNS: Consul's servers, which know the names below consul.
func (c *Cluster) resolvers() []netip.Addr {
	var addresses []netip.Addr
	for _, server := range c.consulServers() {
		addresses = append(addresses, c.Host(server).Addr)
	}
	return addresses
}

// writeResolvers writes the /etc/resolv.conf of a host.
func (c *Cluster) writeResolvers(path string) error {
	data, err := render("resolv.conf", c.resolvers())
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

// render fills one of the files below config/.
func render(name string, data any) ([]byte, error) {
	t, err := template.New(name).Option("missingkey=error").ParseFS(configFiles, "config/"+name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, data)
	return b.Bytes(), err
}

func (c *Cluster) writeNodeConfig(h *Host) error {
	for _, file := range []struct{ name, path string }{
		{"containerd.toml", c.path(h.Name, "containerd.toml")},
		{"cni.conflist", c.path(h.Name, "cni", "10-pods.conflist")},
		{"kubelet.yaml", c.path(h.Name, "kubelet.yaml")},
		{"kube-proxy.yaml", c.path(h.Name, "kube-proxy.yaml")},
	} {
		data, err := render(file.name, c.nodeConfig(h))
		if err != nil {
			return fmt.Errorf("render %s: %w", file.name, err)
		}
		if err := writeFile(file.path, data); err != nil {
			return err
		}
	}
	return c.writeResolvers(c.path(h.Name, "resolv.conf"))
}

func (c *Cluster) containerdSocket(node string) string {
	return c.path(node, "containerd.sock")
}

// startRuntime starts containerd on a node and loads the images every pod needs.
func (c *Cluster) startRuntime(ctx context.Context, h *Host) error {
	if err := c.writeNodeConfig(h); err != nil {
		return err
	}
	if err := makeCgroup(h.Namespace); err != nil {
		return err
	}
	bin := c.bin("containerd")
	p := &Process{
		Host: h.Name, Name: "containerd",
		Args:    []string{bin, "--config", c.path(h.Name, "containerd.toml")},
		Env:     []string{"PATH=" + filepath.Dir(bin) + ":" + toolPath}, // the shim lies beside it
		Address: c.containerdSocket(h.Name),
	}
	if err := c.start(p); err != nil {
		return err
	}
	err := c.awaitServers(ctx, "containerd on "+h.Name, []*Process{p}, func(ctx context.Context) error {
		_, err := c.ctr(ctx, h.Name, "version")
		return err
	})
	if err != nil {
		return err
	}
	for _, image := range c.Images {
		if err := c.importImage(ctx, h.Name, image); err != nil {
			return err
		}
	}
	return nil
}

// kubeletDir is the root directory of a node's kubelet, in the node's folder.
const kubeletDir = "kubelet"

// PodsAPI is where the nodes' kubelets have the sockets of their pods API: a folder of the machine that
// all nodes share, and the path in it, in which $(NODE_NAME) stands for the node.
func (c *Cluster) PodsAPI() (folder, socket string) {
	return c.path(), filepath.Join("$(NODE_NAME)", kubeletDir, "pods-api", "pods-api.sock")
}

// startNode starts the Kubernetes part of a node and returns when the node is Ready.
func (c *Cluster) startNode(ctx context.Context, kube kubernetes.Interface, h *Host) error {
	kubeletAddress := netip.AddrPortFrom(h.Addr, kubeletPort).String()
	kubelet := &Process{Host: h.Name, Name: "kubelet", Address: kubeletAddress, Args: []string{
		c.bin("kubelet"),
		"--config=" + c.path(h.Name, "kubelet.yaml"),
		"--kubeconfig=" + c.kubeconfig("kubelet-"+h.Name),
		"--root-dir=" + c.path(h.Name, kubeletDir),
		"--hostname-override=" + h.Name,
		"--node-ip=" + h.Addr.String(),
	}}
	proxy := &Process{Host: h.Name, Name: "kube-proxy", Address: "127.0.0.1:10256", Args: []string{
		c.bin("kube-proxy"), "--config=" + c.path(h.Name, "kube-proxy.yaml"),
	}}
	for _, p := range []*Process{kubelet, proxy} {
		if err := c.start(p); err != nil {
			return err
		}
	}
	if err := c.startKubeletProxy(ctx, h); err != nil {
		return err
	}
	return c.awaitServers(ctx, "node "+h.Name, []*Process{kubelet, proxy}, func(ctx context.Context) error {
		node, err := kube.CoreV1().Nodes().Get(ctx, h.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return nodeReady(node)
	})
}

// nodeReady says why a node is not ready for pods, or nil.
func nodeReady(node *corev1.Node) error {
	if len(node.Spec.Taints) > 0 {
		return fmt.Errorf("tainted: %s", node.Spec.Taints[0].Key)
	}
	for _, cond := range node.Status.Conditions {
		if cond.Type == corev1.NodeReady && cond.Status == corev1.ConditionTrue {
			return nil
		} else if cond.Type == corev1.NodeReady {
			return fmt.Errorf("not Ready: %s", cond.Message)
		}
	}
	return fmt.Errorf("node %s has no condition Ready", node.Name)
}

// LoadImage loads an image, a tar file in OCI or Docker layout, on every node.
func (c *Cluster) LoadImage(ctx context.Context, tarPath string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range c.nodeNames() {
		group.Go(func() error { return c.importImage(ctx, node, tarPath) })
	}
	return group.Wait()
}

func (c *Cluster) importImage(ctx context.Context, node, tarPath string) error {
	if _, err := c.ctr(ctx, node, "--namespace", "k8s.io", "images", "import", tarPath); err != nil {
		return fmt.Errorf("load image %s on %s: %w", tarPath, node, err)
	}
	return nil
}

// ctr runs containerd's own client against a node's containerd.
func (c *Cluster) ctr(ctx context.Context, node string, args ...string) (string, error) {
	return run(ctx, c.bin("ctr"), append([]string{"--address", c.containerdSocket(node)}, args...)...)
}
