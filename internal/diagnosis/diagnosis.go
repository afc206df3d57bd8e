// Package diagnosis judges what was found of a pod ([Why]), of the servers'
// entries ([Verify]) and of an installation ([Doctor]). It is pure.
//
// What could not be found out is said to be unknown, never taken for none (I1),
// and each finding that somebody should act on says how.
package diagnosis

import (
	"fmt"
	"slices"
	"time"
)

// State says how a finding is to be taken.
type State string

// The values of State.
const (
	OK      State = "ok"
	Note    State = "note"    // worth knowing
	Warning State = "warning" // works, and should be looked at
	Problem State = "problem" // does not work
	Unknown State = "unknown" // could not be found out
)

// Finding is one thing that was found.
type Finding struct {
	State State `json:"state"`
	// Reason is a word for programs; the same text may stand for several objects.
	Reason string `json:"reason"`
	Text   string `json:"text"`
	// Remedy is what a person should do; empty if nothing.
	Remedy string `json:"remedy,omitempty"`
}

// Section is what was found of one thing.
type Section struct {
	Title    string    `json:"title"`
	Findings []Finding `json:"findings"`
}

func (s *Section) add(state State, reason, remedy, format string, args ...any) {
	s.Findings = append(s.Findings, Finding{State: state, Reason: reason, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

// first is the first finding of a state, in the order of the sections: causes
// stand before what follows from them.
func first(sections []Section, state State) (Finding, bool) {
	for _, section := range sections {
		if i := slices.IndexFunc(section.Findings, func(f Finding) bool { return f.State == state }); i >= 0 {
			return section.Findings[i], true
		}
	}
	return Finding{}, false
}

// Lasted is a time span as people say it.
func Lasted(d time.Duration) string {
	switch d = max(0, d); {
	case d < time.Second:
		return "less than 1s"
	case d < 10*time.Minute:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		text := d.Round(time.Minute).String()
		return text[:len(text)-len("0s")]
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}

// ago is how long before now a time was; "at an unknown time" if it is zero.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return Lasted(now.Sub(t)) + " ago"
}

// plural is a number and its noun.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
