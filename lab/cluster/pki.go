package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"
)

// identity is what a certificate is issued for. Kubernetes reads user and groups from a client
// certificate's subject: the common name and the organisations.
type identity struct {
	user   string
	groups []string
	names  []string
	addrs  []netip.Addr
}

// authority is a certificate authority. The lab's first one signs servers and clients alike.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// lifetime is short: a lab is not meant to grow old.
const lifetime = 30 * 24 * time.Hour

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(lifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &authority{cert: cert, key: key}, err
}

// keyPair is a certificate and its key in PEM.
type keyPair struct{ cert, key []byte }

// issue makes a certificate that serves as the identity's client and, with names, server certificate.
func (a *authority) issue(id identity) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return keyPair{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id.user, Organization: id.groups},
		NotBefore:    a.cert.NotBefore,
		NotAfter:     a.cert.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:     id.names,
	}
	for _, addr := range id.addrs {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return keyPair{}, fmt.Errorf("issue certificate for %s: %w", id.user, err)
	}
	keyPEM, err := encodeKey(key)
	return keyPair{cert: encodeCert(der), key: keyPEM}, err
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// encodeKey uses the older form, for kube-apiserver reads a public key out of no other.
func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

// identities names every certificate of the lab. The key is the file's name below pki/.
func (c *Cluster) identities() map[string]identity {
	cp := c.Host(controlPlane)
	ids := map[string]identity{
		"admin":                   {user: "lab-admin", groups: []string{"system:masters"}},
		"kube-controller-manager": {user: "system:kube-controller-manager"},
		"kube-scheduler":          {user: "system:kube-scheduler"},
		"kube-proxy":              {user: "system:kube-proxy"},
		// With this one the API server talks to kubelets.
		"kubelet-client": {user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}},
		"kube-apiserver": {
			user:  "kube-apiserver",
			names: []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"},
			addrs: []netip.Addr{cp.Addr, cp.Extra, c.serviceAPI(), loopback()},
		},
	}
	if c.DNS {
		ids[coreDNS] = identity{user: "system:" + coreDNS}
	}
	for _, node := range c.nodeNames() {
		ids["kubelet-"+node] = identity{
			user:   "system:node:" + node,
			groups: []string{"system:nodes"},
			names:  []string{node, "localhost"},
			addrs:  []netip.Addr{c.Host(node).Addr, loopback()},
		}
	}
	return ids
}

func loopback() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 1}) }

// buildPKI writes the authority, all certificates, the key that signs service account tokens, and a
// kubeconfig for each client.
func (c *Cluster) buildPKI() error {
	ca, err := c.buildAuthority("ca")
	if err != nil {
		return err
	}
	if _, err := c.buildAuthority("front-proxy-ca"); err != nil {
		return err
	}
	for name, id := range c.identities() {
		pair, err := ca.issue(id)
		if err != nil {
			return err
		}
		if err := c.writePair(name, pair); err != nil {
			return err
		}
		if err := c.writeKubeconfig(name, encodeCert(ca.cert.Raw), pair); err != nil {
			return fmt.Errorf("write kubeconfig %s: %w", name, err)
		}
	}
	return c.buildServiceAccountKey()
}

func (c *Cluster) buildAuthority(name string) (*authority, error) {
	a, err := newAuthority(name)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority %s: %w", name, err)
	}
	key, err := encodeKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority %s: %w", name, err)
	}
	return a, c.writePair(name, keyPair{cert: encodeCert(a.cert.Raw), key: key})
}

func (c *Cluster) buildServiceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	data, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	return writeFile(c.key("service-accounts"), data)
}

func (c *Cluster) cert(name string) string { return c.path("pki", name+".crt") }
func (c *Cluster) key(name string) string  { return c.path("pki", name+".key") }

func (c *Cluster) writePair(name string, pair keyPair) error {
	if err := errors.Join(writeFile(c.cert(name), pair.cert), writeFile(c.key(name), pair.key)); err != nil {
		return fmt.Errorf("write certificate %s: %w", name, err)
	}
	return nil
}
