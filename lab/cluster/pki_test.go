package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestIdentities: Kubernetes grants rights by these subjects, and clients check these names.
func TestIdentities(t *testing.T) {
	ca, err := newAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	ids := newCluster(Default("lab"), record{}).identities()
	for name, tc := range map[string]struct {
		user   string
		groups []string
		server string // a name or address it answers by
	}{
		"admin":          {"lab-admin", []string{"system:masters"}, ""},
		"kubelet-n2":     {"system:node:n2", []string{"system:nodes"}, "198.18.0.22"},
		"kube-proxy":     {"system:kube-proxy", nil, ""},
		"kube-scheduler": {"system:kube-scheduler", nil, ""},
		"kube-apiserver": {"kube-apiserver", nil, "198.19.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := ca.issue(ids[name])
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(pair.cert)
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: usage}); err != nil {
				t.Errorf("as a client: %v", err)
			}
			if cert.Subject.CommonName != tc.user {
				t.Errorf("user %q, want %q", cert.Subject.CommonName, tc.user)
			}
			if diff := cmp.Diff(tc.groups, cert.Subject.Organization); diff != "" {
				t.Errorf("groups (-want +got):\n%s", diff)
			}
			if tc.server != "" && cert.VerifyHostname(tc.server) != nil {
				t.Errorf("does not answer by %s", tc.server)
			}
		})
	}
}
