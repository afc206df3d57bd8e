package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"fairway.dev/fairway/internal/consul"
)

// userAgent is who asks, in the logs of Consul and of the API server.
const userAgent = "fairway"

// access is how commands reach Kubernetes, Fairway's agents and Consul, and how
// they print what they found: the flags that all of them share.
type access struct {
	Kubeconfig       string
	Context          string
	Namespace        string // as given; see namespace
	FairwayNamespace string
	Consul           consul.Config
	Output           string
	Timeout          time.Duration
}

func newAccess() *access {
	return &access{
		FairwayNamespace: "fairway-system",
		Consul:           consul.Config{UserAgent: userAgent},
		Timeout:          30 * time.Second,
	}
}

func (a *access) flags(f *pflag.FlagSet) {
	f.StringVar(&a.Consul.Address, "consul-address", a.Consul.Address, "a Consul agent or server (env CONSUL_HTTP_ADDR; default http://127.0.0.1:8500)")
	f.StringVar(&a.Consul.CAFile, "consul-ca-file", a.Consul.CAFile, "CA certificates that Consul's certificate must come from (env CONSUL_CACERT)")
	f.StringVar(&a.Consul.CertFile, "consul-cert-file", a.Consul.CertFile, "client certificate for Consul (env CONSUL_CLIENT_CERT)")
	f.StringVar(&a.Consul.KeyFile, "consul-key-file", a.Consul.KeyFile, "key of the client certificate (env CONSUL_CLIENT_KEY)")
	f.StringVar(&a.Consul.TokenFile, "consul-token-file", a.Consul.TokenFile, "file with a Consul ACL token (env CONSUL_HTTP_TOKEN_FILE, or the token itself in CONSUL_HTTP_TOKEN)")
	f.StringVar(&a.Context, "context", a.Context, "context of the kubeconfig file to use")
	f.StringVar(&a.FairwayNamespace, "fairway-namespace", a.FairwayNamespace, "namespace that Fairway is installed in")
	f.StringVar(&a.Kubeconfig, "kubeconfig", a.Kubeconfig, "kubeconfig file (env KUBECONFIG)")
	f.StringVarP(&a.Namespace, "namespace", "n", a.Namespace, "namespace of the pod (default: that of the context)")
	f.StringVarP(&a.Output, "output", "o", a.Output, "json or yaml; default: text for people")
	f.DurationVar(&a.Timeout, "timeout", a.Timeout, "how long to look at most")
}

// config is the kubeconfig as kubectl would read it.
func (a *access) config() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = a.Kubeconfig
	overrides := &clientcmd.ConfigOverrides{CurrentContext: a.Context}
	overrides.Context.Namespace = a.Namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// namespace is the one that the user works in.
func (a *access) namespace() (string, error) {
	namespace, _, err := a.config().Namespace()
	if err != nil {
		return "", fmt.Errorf("read the kubeconfig: %w", err)
	}
	return namespace, nil
}

// kubernetes is a client of the API server.
func (a *access) kubernetes() (kubernetes.Interface, error) {
	config, err := a.config().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config = rest.AddUserAgent(config, userAgent)
	config.QPS, config.Burst = 50, 100 // one question for each node
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes client: %w", err)
	}
	return client, nil
}

// consul is a client of Consul.
func (a *access) consul() (*consul.Client, error) { return consul.FromEnvironment(a.Consul) }

// bound is the time that a command has.
func (a *access) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, a.Timeout, fmt.Errorf("not done within --timeout %s", a.Timeout))
}
