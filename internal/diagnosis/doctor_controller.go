package diagnosis

import "strings"

// Controllers is how Fairway's controller stands.
type Controllers struct {
	// Wanted is how many replicas there are to be; Installed is false if there is no
	// Deployment of it.
	Installed bool
	Wanted    int
	// Needed says for what there must be one; empty if there need not be.
	Needed   string
	Replicas []Replica
	// Problem is why they could not be found out.
	Problem string
}

// Replica is one controller.
type Replica struct {
	Name string
	// Says is the answer to /readyz: "ok" or why it is not ready, whether it leads,
	// and what people should know.
	Says string
	// Problem is why it did not answer.
	Problem string
}

// leads is how a controller says that it leads.
const leads = "this replica leads"

func (d doctor) controllers() Section {
	s := Section{Title: "controller"}
	c := d.Controllers
	switch {
	case c.Problem != "":
		s.add(Unknown, "ControllersUnknown", "you need the right to get deployments and list pods in "+d.Namespace+" (docs/cli.md)",
			"the controllers could not be found out: %s", c.Problem)
	case !c.Installed && c.Needed != "":
		s.add(Problem, "ControllerMissing", "install it: controller.enabled in the chart's values", "there is no controller, so %s", c.Needed)
	case !c.Installed:
	case c.Wanted == 0:
		s.add(Problem, "ControllerScaledDown", d.kubectl("scale deployment fairway-controller --replicas 2"),
			"there is to be no controller (0 replicas): what it would write is not written")
	default:
		d.replicas(&s)
	}
	return s
}

// replicas is what the controllers say of themselves, and what that makes of them.
func (d doctor) replicas(s *Section) {
	c := d.Controllers
	ready, asked := 0, 0
	leading, blind := 0, "" // of those the one that cannot work, if any
	told := map[string]bool{}
	for _, r := range c.Replicas {
		lines := strings.Split(strings.TrimSpace(r.Says), "\n")
		switch {
		case r.Problem != "":
			s.add(Unknown, "ControllerUnknown", remedyAgentAccess, "%s could not be asked: %s", r.Name, r.Problem)
			continue
		case lines[0] == "ok":
			ready++
		default:
			s.add(Warning, "ControllerNotReady", d.kubectl("logs "+r.Name), "%s is not ready: %s", r.Name, lines[0])
		}
		asked++
		for _, line := range lines[1:] {
			switch {
			case line == leads && lines[0] != "ok":
				leading, blind = leading+1, r.Name
			case line == leads:
				leading++
			case strings.HasSuffix(line, " leads") || strings.HasSuffix(line, " to lead"): // another does, or nobody is known to
			case !told[line]: // the others see it too
				told[line] = true
				s.add(Warning, "ControllerHolds", "docs/operations.md#alerts says what to do", "%s", line)
			}
		}
	}
	switch all := asked == len(c.Replicas); {
	case ready == 0 && all:
		s.add(Problem, "NoController", d.kubectl("describe deployment fairway-controller"), "none of %s is ready", plural(c.Wanted, "controller", "controllers"))
	case leading == 0 && all:
		s.add(Problem, "NobodyLeads", d.kubectl("logs deployment/fairway-controller")+" says why", "%s, and none leads: nothing is written", plural(ready, "controller is ready", "controllers are ready"))
	case blind != "":
		s.add(Problem, "LeaderNotReady", d.kubectl("logs "+blind)+" says why; it soon lets another lead, if there is one", "%s leads, and is not ready: not everything is written", blind)
	case ready < c.Wanted:
		s.add(Warning, "ControllersMissing", d.kubectl("describe deployment fairway-controller"), "%d of %d controllers are ready", ready, c.Wanted)
	default:
		s.add(OK, "ControllersReady", "", "%d of %d are ready, one leads", ready, c.Wanted)
	}
}
