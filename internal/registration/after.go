package registration

import "fairway.dev/fairway/internal/service"

// After is what the registry holds of an entry once the op was carried out,
// given what it held before. Both may be nothing at all.
func (o Op) After(before Entry, existed bool) (after Entry, exists bool) {
	switch o.Kind {
	case Register:
		after = Entry{
			Instance: o.Instance,
			Cluster:  o.Instance.Meta[service.MetaCluster],
			Node:     o.Instance.Meta[service.MetaNode],
			HasCheck: true,
		}
		if existed && before.HasCheck {
			after.Instance.Health = before.Instance.Health
		}
		return after, true
	case SetHealth:
		before.Instance.Health, before.Instance.Notes = o.Instance.Health, o.Instance.Notes
		return before, existed
	default:
		return Entry{}, false
	}
}
