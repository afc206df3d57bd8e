package process

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"

	"github.com/spf13/pflag"

	"fairway.dev/fairway/internal/consul"
)

// ConsulOptions say how a process reaches Consul.
type ConsulOptions struct {
	ConsulAddress         string
	ConsulTokenFile       string
	ConsulAuthMethod      string // instead of ConsulTokenFile
	ConsulBearerTokenFile string // what ConsulAuthMethod is given
	ConsulCAFile          string
	ConsulCertFile        string
	ConsulKeyFile         string
}

// DefaultConsul is a Consul on the same machine.
func DefaultConsul() ConsulOptions {
	return ConsulOptions{
		ConsulAddress:         "http://127.0.0.1:8500",
		ConsulBearerTokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
	}
}

// AddFlags adds the flags that set them; who is what the address leads to.
func (o *ConsulOptions) AddFlags(f *pflag.FlagSet, who string) {
	f.StringVar(&o.ConsulAddress, "consul-address", o.ConsulAddress, who+": http://host:port, https://host:port or unix:///path")
	f.StringVar(&o.ConsulAuthMethod, "consul-auth-method", o.ConsulAuthMethod, "auth method of Consul that gives the ACL token in exchange for a bearer token")
	f.StringVar(&o.ConsulBearerTokenFile, "consul-bearer-token-file", o.ConsulBearerTokenFile, "file with the bearer token for the auth method")
	f.StringVar(&o.ConsulCAFile, "consul-ca-file", o.ConsulCAFile, "CA certificates that Consul's certificate must come from (https)")
	f.StringVar(&o.ConsulCertFile, "consul-cert-file", o.ConsulCertFile, "client certificate for Consul (https)")
	f.StringVar(&o.ConsulKeyFile, "consul-key-file", o.ConsulKeyFile, "key of the client certificate (https)")
	f.StringVar(&o.ConsulTokenFile, "consul-token-file", o.ConsulTokenFile, "file with the Consul ACL token; a changed file takes effect at once")
}

// Validate names everything that is wrong.
func (o ConsulOptions) Validate() error {
	var c Check
	c.That(o.ConsulAddress != "", "--consul-address: required")
	c.That(o.ConsulTokenFile == "" || o.ConsulAuthMethod == "", "--consul-token-file and --consul-auth-method: only one can give the token")
	c.That(o.ConsulAuthMethod == "" || o.ConsulBearerTokenFile != "", "--consul-bearer-token-file: required with --consul-auth-method")
	c.That((o.ConsulCertFile == "") == (o.ConsulKeyFile == ""), "--consul-cert-file and --consul-key-file go together")
	return c.Err()
}

// Client is a client of that Consul.
func (o ConsulOptions) Client(userAgent string) (*consul.Client, error) {
	return consul.New(consul.Config{
		Address:         o.ConsulAddress,
		TokenFile:       o.ConsulTokenFile,
		AuthMethod:      o.ConsulAuthMethod,
		BearerTokenFile: o.ConsulBearerTokenFile,
		CAFile:          o.ConsulCAFile,
		CertFile:        o.ConsulCertFile,
		KeyFile:         o.ConsulKeyFile,
		UserAgent:       userAgent,
	})
}

// LogOptions say what is logged and how.
type LogOptions struct {
	LogFormat string // text or json
	LogLevel  slog.Level
}

// DefaultLog is what a process logs that nobody has configured.
func DefaultLog() LogOptions { return LogOptions{LogFormat: "json", LogLevel: slog.LevelInfo} }

// AddFlags adds the flags that set them.
func (o *LogOptions) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.LogFormat, "log-format", o.LogFormat, "text or json")
	f.TextVar(&o.LogLevel, "log-level", o.LogLevel, "debug, info, warn or error")
}

// Validate names what is wrong.
func (o LogOptions) Validate() error {
	if o.LogFormat != "text" && o.LogFormat != "json" {
		return fmt.Errorf("--log-format %q: must be text or json", o.LogFormat)
	}
	return nil
}

// Logger writes to out.
func (o LogOptions) Logger(out io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: o.LogLevel}
	if o.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(out, options))
	}
	return slog.New(slog.NewJSONHandler(out, options))
}

// CheckClusterID says what is wrong with a cluster's id: it must be able to
// stand in a label, a metric and a URL.
func CheckClusterID(id string) error {
	if regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`).MatchString(id) {
		return nil
	}
	return fmt.Errorf("--cluster-id %q: must be 1 to 63 letters, digits, '.', '_' or '-', and differ between clusters that share a Consul", id)
}

// Check gathers what is wrong with options.
type Check struct{ errs []error }

// That notes what is wrong unless ok.
func (c *Check) That(ok bool, format string, args ...any) {
	if !ok {
		c.errs = append(c.errs, fmt.Errorf(format, args...))
	}
}

// All notes errors; nil is none.
func (c *Check) All(errs ...error) { c.errs = append(c.errs, errs...) }

// Err is all that is wrong, nil if nothing is.
func (c *Check) Err() error { return errors.Join(c.errs...) }
