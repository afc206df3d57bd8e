package diagnosis

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairway.dev/fairway/internal/annotation"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// Placed is a pod and its node.
type Placed struct {
	Pod  service.Pod
	Node string
}

// CatalogFacts is all that Verify looks at.
type CatalogFacts struct {
	Cluster string // not empty: nothing else is ours
	// Pods are all pods of the cluster, or of Namespace if that is not empty.
	Pods      []Placed
	Namespace string
	// Listings are of every service that a pod declares, and of every one of
	// which the servers hold an entry of Fairway.
	Listings []Listing
}

// The kinds of Difference.
const (
	// Missing: the pod is ready and the servers have no entry.
	Missing = "Missing"
	// NotGiven: the pod is ready and the servers keep its entry from clients.
	NotGiven = "NotGiven"
	// GivenUnready: clients get an entry whose pod is not ready.
	GivenUnready = "GivenUnready"
	// GivenLeaving: clients get an entry whose pod ends or has ended.
	GivenLeaving = "GivenLeaving"
	// GivenGone: clients get an entry whose pod is not in the cluster.
	GivenGone = "GivenGone"
	// GivenUndeclared: clients get an entry that its pod does not declare.
	GivenUndeclared = "GivenUndeclared"
	// Differs: the entry is not as the pod asks for.
	Differs = "Differs"
	// SameAddress: clients get the address of an entry of ours twice.
	SameAddress = "SameAddress"
	// BadAnnotation: a pod's annotations cannot all be understood, so that what
	// it asks for is not known.
	BadAnnotation = "BadAnnotation"
)

// Difference is one place where clients are not given what the pods are.
type Difference struct {
	Kind    string `json:"kind"`
	Service string `json:"service"`
	Pod     string `json:"pod"`
	Node    string `json:"node"`
	ID      string `json:"id,omitempty"`
	Detail  string `json:"detail"`
}

// CatalogReport is the answer of Verify.
type CatalogReport struct {
	Cluster string `json:"cluster"`
	// Pods that declare services, and the instances that they declare.
	Pods      int `json:"pods"`
	Instances int `json:"instances"`
	// Given are the instances that clients are given just as declared, Withheld
	// those that are not ready and that clients are rightly not given.
	Given    int `json:"given"`
	Withheld int `json:"withheld"`
	// OfServices counts the entries of this cluster's Services, which no pod asks for,
	// and Foreign those of others, under the same names.
	OfServices  int          `json:"ofServices"`
	Foreign     int          `json:"foreign"`
	Differences []Difference `json:"differences"`
	// Unknown says of which services it could not be found out, and why.
	Unknown []Finding `json:"unknown"`
}

// Verify compares what the pods are with what the servers give to clients.
func Verify(in CatalogFacts) CatalogReport {
	v := verification{
		CatalogFacts: in, report: CatalogReport{Cluster: in.Cluster, Differences: []Difference{}, Unknown: []Finding{}},
		listings: map[string]Listing{}, pods: map[string]Placed{}, asked: map[string]bool{}, kept: map[string]bool{},
	}
	for _, listing := range in.Listings {
		v.listings[listing.Service] = listing
	}
	for _, placed := range in.Pods {
		v.pods[placed.Pod.Ref.UID] = placed
		v.declared(placed)
	}
	for _, listing := range in.Listings {
		v.listed(listing)
	}
	slices.SortFunc(v.report.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Detail, b.Detail))
	})
	return v.report
}

// Lasting is what of a second report was also in the first: a pod that changes
// while it is looked at is no finding.
func (r CatalogReport) Lasting(before CatalogReport) CatalogReport {
	key := func(d Difference) Difference { d.Detail = ""; return d }
	was := map[Difference]bool{}
	for _, d := range before.Differences {
		was[key(d)] = true
	}
	r.Differences = slices.DeleteFunc(slices.Clone(r.Differences), func(d Difference) bool { return !was[key(d)] })
	return r
}

// verification is one run of Verify.
type verification struct {
	CatalogFacts
	report   CatalogReport
	listings map[string]Listing // by service
	pods     map[string]Placed  // by UID
	asked    map[string]bool    // IDs that pods ask for
	kept     map[string]bool    // UIDs of pods whose entries stay as they are
}

func (v *verification) differ(kind, name string, pod service.PodRef, node, id, format string, args ...any) {
	v.report.Differences = append(v.report.Differences, Difference{
		Kind: kind, Service: name, Pod: pod.String(), Node: node, ID: id, Detail: fmt.Sprintf(format, args...),
	})
}

// declared looks at what one pod asks for.
func (v *verification) declared(placed Placed) {
	pod := placed.Pod
	declared := annotation.Parse(pod)
	state := registration.Want(pod, declared, v.Cluster, placed.Node, 0)
	for _, e := range declared.Errors {
		v.differ(BadAnnotation, e.Service, pod.Ref, placed.Node, "", "%s", e.String())
	}
	v.kept[pod.Ref.UID] = state.Incomplete
	if !declared.Declared || placed.Node == "" || pod.Ended() {
		return
	}
	v.report.Pods++
	for _, want := range state.Instances {
		v.asked[want.ID] = true
		v.report.Instances++
		if listing := v.listings[want.Name]; listing.Problem == "" {
			v.instance(placed, want, listing)
		}
	}
}

// instance looks at one instance that a pod asks for.
func (v *verification) instance(placed Placed, want service.Instance, listing Listing) {
	pod, found := placed.Pod, listing.byID(want.ID)
	i := slices.IndexFunc(found, func(e Listed) bool { return e.Given })
	differ := func(kind, format string, args ...any) {
		v.differ(kind, want.Name, pod.Ref, placed.Node, want.ID, format, args...)
	}
	switch {
	case i >= 0 && pod.Terminating:
		differ(GivenLeaving, "given to clients, though the pod is being deleted")
	case i >= 0 && want.Health != service.Passing:
		differ(GivenUnready, "given to clients, though it should be %s: %s", want.Health, want.Notes)
	case want.Health != service.Passing:
		v.report.Withheld++
	case len(found) == 0:
		differ(Missing, "the servers have no entry")
	case i < 0:
		differ(NotGiven, "the servers keep it from clients: %s", found[0].Why)
	default:
		if diff := registration.Differences(found[i].Instance, want); len(diff) > 0 {
			differ(Differs, "%s", strings.Join(diff, "; "))
			return
		}
		v.report.Given++
	}
}

// listed looks at what the servers have under one name and no pod asks for.
func (v *verification) listed(listing Listing) {
	if listing.Problem != "" {
		v.report.Unknown = append(v.report.Unknown, Finding{
			State: Unknown, Reason: "ServersUnknown", Text: listing.Service + ": " + listing.Problem, Remedy: remedyConsulAccess,
		})
		return
	}
	for _, entry := range listing.Entries {
		switch {
		case entry.Cluster != v.Cluster:
			v.report.Foreign++
		case entry.Instance.Endpoint != (service.EndpointRef{}):
			v.report.OfServices++
		case entry.Given && !v.asked[entry.Instance.ID] && v.within(entry.Instance.Pod):
			v.unasked(entry)
		}
	}
	v.addresses(listing)
}

// within tells whether the pod would be among those that were looked at.
func (v *verification) within(pod service.PodRef) bool {
	return v.Namespace == "" || v.Namespace == pod.Namespace
}

// unasked looks at an entry that clients get and no pod asks for.
func (v *verification) unasked(entry Listed) {
	in := entry.Instance
	differ := func(kind, format string, args ...any) {
		v.differ(kind, in.Name, in.Pod, entry.Node, in.ID, format, args...)
	}
	placed, exists := v.pods[in.Pod.UID]
	switch {
	case !exists:
		differ(GivenGone, "given to clients, and there is no such pod (UID %s)", in.Pod.UID)
	case placed.Pod.Terminating || placed.Pod.Ended():
		differ(GivenLeaving, "given to clients, though the pod ends or has ended")
	case !v.kept[in.Pod.UID]:
		differ(GivenUndeclared, "given to clients, and the pod does not declare it")
	}
}

// addresses looks for what clients get twice under one name, at least once
// through us.
func (v *verification) addresses(listing Listing) {
	at := map[netip.AddrPort][]Listed{}
	for _, entry := range listing.Entries {
		if entry.Given && entry.Instance.Address.IsValid() {
			where := netip.AddrPortFrom(entry.Instance.Address, entry.Instance.Port)
			at[where] = append(at[where], entry)
		}
	}
	for where, entries := range at {
		i := slices.IndexFunc(entries, func(e Listed) bool { return e.Cluster == v.Cluster && v.within(e.Instance.Pod) })
		if i < 0 || len(entries) == 1 {
			continue
		}
		var names []string
		for _, entry := range slices.Delete(slices.Clone(entries), i, i+1) {
			names = append(names, fmt.Sprintf("%s on Consul node %s", entry.Instance.ID, entry.ConsulNode))
		}
		slices.Sort(names)
		ours := entries[i]
		v.differ(SameAddress, listing.Service, ours.Instance.Pod, ours.Node, ours.Instance.ID,
			"%s is given to clients also as %s", where, strings.Join(names, ", "))
	}
}
