package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Part is something of the lab and how it is, in words.
type Part struct{ Name, State string }

// healthTimeout bounds each question, for a lab is often looked at while something in it is broken.
const healthTimeout = 3 * time.Second

// Health asks the API server for its nodes and Consul for its members.
func (c *Cluster) Health(ctx context.Context) []Part {
	return append(c.nodeHealth(ctx), c.consulHealth(ctx)...)
}

func (c *Cluster) nodeHealth(ctx context.Context) []Part {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	kube, err := kubernetes.NewForConfig(c.RESTConfig())
	if err != nil {
		return []Part{{"kubernetes", err.Error()}}
	}
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return []Part{{"kubernetes", err.Error()}}
	}
	var parts []Part
	for i := range nodes.Items {
		parts = append(parts, Part{"node " + nodes.Items[i].Name, nodeState(&nodes.Items[i])})
	}
	return parts
}

func nodeState(node *corev1.Node) string {
	if err := nodeReady(node); err != nil {
		return err.Error()
	}
	return "Ready, kubelet " + node.Status.NodeInfo.KubeletVersion
}

func (c *Cluster) consulHealth(ctx context.Context) []Part {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var parts []Part
	for i, consul := range c.ConsulServers() {
		name := "consul as seen by " + c.consulServers()[i]
		leader, err := consul.Status().LeaderWithQueryOptions(new(api.QueryOptions).WithContext(ctx))
		if err == nil && leader == "" {
			err = fmt.Errorf("no leader")
		}
		if err != nil {
			parts = append(parts, Part{name, err.Error()})
			continue
		}
		parts = append(parts, Part{name, "leader " + leader})
	}
	return parts
}
