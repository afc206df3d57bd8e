package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairway.dev/fairway/lab/images"
)

// coreDNS is the name of the program, of its Deployment, and of its kubeconfig.
const coreDNS = "coredns"

// dnsConfig is what config/coredns.yaml is made from.
type dnsConfig struct {
	Name, Image, User, Kubeconfig string
	Address                       netip.Addr
	Consul                        []netip.Addr
}

// startDNS deploys CoreDNS and returns when it answers for the cluster's Services. Like Kubernetes' own
// parts it has a client certificate, so that it stays well when Fairway is being lied to.
func (c *Cluster) startDNS(ctx context.Context) error {
	manifest, err := render(coreDNS+".yaml", dnsConfig{
		Name:       coreDNS,
		Image:      images.CoreDNSRef,
		User:       "system:" + coreDNS,
		Kubeconfig: c.kubeconfig(coreDNS),
		Address:    c.serviceDNS(),
		Consul:     c.resolvers(),
	})
	if err != nil {
		return err
	}
	apply := c.KubectlCommand(ctx, "apply", "--filename", "-")
	apply.Stdin = bytes.NewReader(manifest)
	if _, err := runCmd(apply); err != nil {
		return err
	}
	kube, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return err
	}
	return await(ctx, coreDNS+" to be ready", func(ctx context.Context) error {
		deployment, err := kube.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, coreDNS, metav1.GetOptions{})
		if err == nil && deployment.Status.ReadyReplicas == 0 {
			err = fmt.Errorf("it is not; see its pod in namespace %s", metav1.NamespaceSystem)
		}
		return err
	})
}
