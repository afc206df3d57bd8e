package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fairway.dev/fairway/internal/export"
	"fairway.dev/fairway/internal/registration"
	"fairway.dev/fairway/internal/service"
)

// The reasons of Events on Services.
const (
	reasonPublished   = "Published"
	reasonUnpublished = "NotPublished"
	reasonAnnotation  = "InvalidAnnotation"
	reasonSkipped     = "EndpointsSkipped"
	reasonRefused     = "RegistryRefused"
	reasonFrozen      = "RemovalsFrozen"
	reasonResumed     = "RemovalsResumed"
)

// untoldFor is how long a replica that does not lead remembers what is to be told of
// a Service. If it leads by then, whoever led before may not have told it.
const untoldFor = 2 * leadFor

// stand is how a Service stands, in the words of an Event.
type stand struct {
	reason, message string
	warn            bool
}

// untold is an Event that the leader writes.
type untold struct {
	service export.Object
	uid     string
	stand
	since time.Time
}

// standOf is how a Service stands by what was decided of it.
func standOf(result export.Result) stand {
	switch {
	case len(result.Errors) > 0:
		var problems []string
		for _, err := range result.Errors {
			problems = append(problems, err.String())
		}
		meanwhile := map[export.Verdict]string{
			export.Published:   "All else of the Service is published",
			export.Unpublished: "Not published in Consul: " + result.Reason,
			export.Undecided:   "Until that is corrected, what stands in Consul stays, and nothing new is published",
		}
		return stand{reasonAnnotation, strings.Join(problems, "; ") + ". " + meanwhile[result.Verdict], true}
	case result.Verdict == export.Undecided:
		return stand{reasonUnpublished, "What stands in Consul stays as it is, and nothing new is published: " + result.Reason, true}
	case result.Verdict == export.Unpublished:
		return stand{reasonUnpublished, "Not published in Consul: " + result.Reason, false}
	case len(result.Skipped) > 0 && len(result.Instances) == 0:
		return stand{reasonSkipped, fmt.Sprintf("Service %q has no instance in Consul: %s", result.Name, result.Skipped[0].Reason), true}
	case len(result.Skipped) > 0:
		return stand{reasonSkipped, fmt.Sprintf("Some endpoints are not published: %s", result.Skipped[0].Reason), true}
	case len(result.Instances) == 0:
		return stand{reasonPublished, fmt.Sprintf("Published in Consul as %q, where nothing stands for now: %s", result.Name, result.Reason), false}
	}
	return stand{reasonPublished, fmt.Sprintf("Published in Consul as %q: %s", result.Name, result.Reason), false}
}

// tell tells people how the Services stand, and what has changed.
func (e *exporter) tell(plan export.Plan, problem string) {
	now := time.Now()
	for _, result := range plan.Services {
		is := standOf(result)
		was, known := e.told[result.Service]
		if was == is {
			continue
		}
		e.told[result.Service] = is
		// A process that has just started has no news of what is as it should be, and a
		// new Service that is not published is none.
		began := e.shards[export.ShardOf(result.Service.Namespace, result.Service.Name)].told
		if is.warn || known || began && is.reason == reasonPublished {
			e.note(result.Service, result.UID, is, now)
		}
	}
	for _, shard := range e.shards {
		shard.told = !shard.readAt.IsZero() || shard.told
	}
	refused := e.refused(plan)
	e.tellRefused(plan, refused, now)
	e.tellFrozen(plan, now)
	e.spread(now)
	e.count(plan, refused)

	e.report.set(strings.Join(slices.DeleteFunc([]string{problem, e.blocked()}, func(s string) bool { return s == "" }), "; "),
		e.details(plan, refused))
}

// details are what people should know though the loop can do its work: a line each.
func (e *exporter) details(plan export.Plan, refused map[string]refusal) string {
	var details []string
	if len(plan.Frozen) > 0 {
		details = append(details, frozenText(len(plan.Frozen), plan.Frozen[0].Reason, plan.Frozen[0].Waits))
		if e.permitted.problem != "" {
			details = append(details, e.permitted.problem)
		}
	}
	if len(refused) > 0 {
		first := refused[slices.Min(slices.Collect(maps.Keys(refused)))]
		details = append(details, fmt.Sprintf("Consul refuses %s; of %s: %s",
			numberOf(len(refused), "instance of a Service", "instances of Services"), first.service, first.why))
	}
	return strings.Join(details, "\n")
}

func (e *exporter) note(svc export.Object, uid string, what stand, now time.Time) {
	e.untold = append(e.untold, untold{svc, uid, what, now})
	if what.warn {
		e.log.Warn("Service", "service", svc.String(), "reason", what.reason, "message", what.message)
	} else {
		e.log.Info("Service", "service", svc.String(), "reason", what.reason, "message", what.message)
	}
}

// spread writes what is to be told, if this replica leads.
func (e *exporter) spread(now time.Time) {
	if !e.leader.leads() {
		e.untold = slices.DeleteFunc(e.untold, func(u untold) bool { return now.Sub(u.since) > untoldFor })
		return
	}
	for _, u := range e.untold {
		if u.warn {
			e.events.Warn(u.service, u.uid, u.reason, u.message)
		} else {
			e.events.Note(u.service, u.uid, u.reason, u.message)
		}
	}
	e.untold = nil
}

// refused says, by instance ID, what Consul does not take.
func (e *exporter) refused(plan export.Plan) map[string]refusal {
	refused := map[string]refusal{}
	for _, op := range plan.Ops {
		if f := e.failures[op.Instance.ID]; f != nil && f.refused {
			refused[op.Instance.ID] = refusal{serviceObject(op.Instance), op.Instance.Meta[service.MetaServiceUID], f.reason}
		}
	}
	for id, why := range plan.Refused {
		if svc, ok := export.ServiceOfID(id); ok {
			refused[id] = refusal{svc, "", why}
		}
	}
	return refused
}

// refusal is why an instance of a Service cannot be registered.
type refusal struct {
	service export.Object
	uid     string
	why     string
}

// serviceObject is the Service of an instance.
func serviceObject(in service.Instance) export.Object {
	return export.Object{Kind: export.KindService, Namespace: in.Endpoint.Namespace, Name: in.Endpoint.Service}
}

// toldRefusal is that Consul refuses instances of a Service, as it was told.
type toldRefusal struct {
	refusal
	taken bool // Consul has taken an instance since
}

// took notes that Consul has taken a write.
func (e *exporter) took(op registration.Op) {
	svc := serviceObject(op.Instance)
	if t, refused := e.refusals[svc]; refused && op.Kind != registration.Deregister {
		t.taken = true
		e.refusals[svc] = t
	}
}

// tellRefused tells once of each Service that and why Consul refuses it, and that it
// does not any more when all of it is written.
func (e *exporter) tellRefused(plan export.Plan, refused map[string]refusal, now time.Time) {
	before := e.refusals
	e.refusals = map[export.Object]toldRefusal{}
	for _, id := range slices.Sorted(maps.Keys(refused)) {
		r := refused[id]
		if _, twice := e.refusals[r.service]; twice {
			continue
		}
		e.refusals[r.service] = toldRefusal{refusal: r}
		if before[r.service].why != r.why {
			e.note(r.service, r.uid, stand{reasonRefused, "Consul does not take an instance: " + r.why, true}, now)
		}
	}
	for _, op := range plan.Ops { // until those are written nobody knows
		svc := serviceObject(op.Instance)
		if _, is := e.refusals[svc]; !is && before[svc].why != "" {
			e.refusals[svc] = before[svc]
		}
	}
	for svc, t := range before {
		if _, still := e.refusals[svc]; !still && t.taken {
			e.note(svc, t.uid, stand{reasonPublished, "Published in Consul: it takes all instances now", false}, now)
		}
	}
}

// tellFrozen tells once of each Service that removals are frozen, and that none is
// any more.
func (e *exporter) tellFrozen(plan export.Plan, now time.Time) {
	frozen := map[export.Object]string{} // with the UID
	counts := map[export.Object]int{}
	for _, f := range plan.Frozen {
		counts[serviceObject(f.Op.Instance)]++
	}
	for _, f := range plan.Frozen {
		svc, uid := serviceObject(f.Op.Instance), f.Op.Instance.Meta[service.MetaServiceUID]
		if _, told := frozen[svc]; told {
			continue
		}
		frozen[svc] = uid
		if _, before := e.frozen[svc]; !before {
			e.note(svc, uid, stand{reasonFrozen, frozenText(counts[svc], f.Reason, f.Waits) +
				". To let all go that are frozen, annotate the Lease " + leaseName + " with " + allowRemovals + "=TIME, such as " +
				now.Add(10*time.Minute).UTC().Format(time.RFC3339) + " (docs/removals.md#services)", true}, now)
		}
	}
	for svc, uid := range e.frozen {
		if _, still := frozen[svc]; !still {
			e.note(svc, uid, stand{reasonResumed, "no removal is frozen any more", false}, now)
		}
	}
	e.frozen = frozen
}

func frozenText(n int, reason, waits string) string {
	return fmt.Sprintf("frozen: %s: %s; waiting: %s", numberOf(n, "removal of an instance of a Service", "removals of instances of Services"), reason, waits)
}

// numberOf is a number of something.
func numberOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
