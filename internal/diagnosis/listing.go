package diagnosis

import (
	"slices"

	"fairway.dev/fairway/internal/registration"
)

// Listing is what the servers hold under one service name.
type Listing struct {
	Service string
	// Problem is why it is not known; then there are no Entries.
	Problem string
	Index   uint64
	Entries []Listed
}

// Listed is one entry at the servers, whoever has made it.
type Listed struct {
	registration.Entry
	ConsulNode string
	// Given tells whether clients get it, and if not, Why says why not.
	Given bool
	Why   string
}

// given counts the entries that clients get.
func (l Listing) given() (n int) {
	for _, entry := range l.Entries {
		if entry.Given {
			n++
		}
	}
	return n
}

// of are the entries of a life of a pod, but for those that a Service has of it.
func (l Listing) of(uid string) []Listed {
	return slices.DeleteFunc(slices.Clone(l.Entries), func(e Listed) bool { return e.Instance.Owner() != uid })
}

// byID are the entries with the ID; more than one if several Consul nodes hold
// it.
func (l Listing) byID(id string) []Listed {
	return slices.DeleteFunc(slices.Clone(l.Entries), func(e Listed) bool { return e.Instance.ID != id })
}
