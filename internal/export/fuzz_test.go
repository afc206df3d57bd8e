package export_test

import (
	"strings"
	"testing"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// Whatever an object holds, each instance can be reached somewhere, under an ID of
// its own that Consul gives back as it was.
func FuzzInstances(f *testing.F) {
	f.Add("198.18.64.1", "IPv4", "p1", "Pod", "http", uint16(8080), "lb.example.com", "endpoints")
	f.Add("fe80::1%eth0", "IPv6", "", "", "http", uint16(80), "*.example.com", "endpoints")
	f.Add("fd00::1", "IPv6", "", "", "", uint16(0), "10.0.0.1", "load-balancer")
	f.Add("a_b", "FQDN", "", "Node", "", uint16(1), "10.0.0.1", "hostname")
	f.Fuzz(func(t *testing.T, at, family, uid, kind, portName string, port uint16, host, mode string) {
		s := slice("web-a", export.Endpoint{Addresses: []string{at}, Target: export.Target{Kind: kind, Name: "x", UID: uid}, Node: "n1"})
		s.AddressType = export.AddressType(family)
		s.Ports = []export.EndpointPort{{Name: portName, Port: &port}}
		svc := web(address(mode), balancer(export.BalancerAddress{Hostname: host}))
		c := cluster(svc, s)
		c.Ingresses = []export.Ingress{{Namespace: "shop", Name: "web", Rules: []export.IngressRule{
			{Host: host, Paths: []export.IngressPath{{Service: "web"}}}}}}
		for _, address := range []annotation.Address{annotation.Endpoints, annotation.LoadBalancer} {
			result := export.Instances(svc, c, policy(func(p *export.Policy) { p.LoadBalancer = address }))
			for _, in := range result.Instances {
				if in.Address.IsValid() == (in.Hostname != "") || in.Address.Zone() != "" {
					t.Errorf("address %s, hostname %q", in.Address, in.Hostname)
				}
				if uid == "" && strings.Count(in.ID, "_") != 5 {
					t.Errorf("ID %q", in.ID)
				}
			}
		}
	})
}

// Whatever stands in the meta of an entry of ours, it proves nothing that is not
// known from elsewhere.
func FuzzStatedBy(f *testing.F) {
	f.Add("EndpointSlice/shop/web-a", "uid-p1")
	f.Add("EndpointSlice/shop/web-b,EndpointSlice/shop/web-c", "node-n1")
	f.Add("//,", "")
	f.Fuzz(func(t *testing.T, statedBy, key string) {
		ref := service.EndpointRef{Namespace: "shop", Service: "web", Key: key}
		r := registry{"x": {Cluster: "c1", HasCheck: true, Instance: service.Instance{
			ID: "x", Name: "web", Endpoint: ref, Health: service.Passing,
			Meta: map[string]string{service.MetaStatedBy: statedBy},
		}}}
		plan, err := r.pass(input(cluster(web(), slice("web-a")), policy()))
		if err != nil {
			t.Error(err)
		}
		for _, op := range plan.Ops {
			for name := range strings.SplitSeq(statedBy, ",") {
				if known := name == "EndpointSlice/shop/web-a" || name == "Service/shop/web"; key != "vip" && op.Kind != registration.Register && !known {
					t.Errorf("%s of what %q has stated: %s", op.Kind, statedBy, op.Reason)
				}
			}
		}
	})
}
