package export

import (
	"fmt"
	"slices"
	"strings"
)

// Selector selects objects by their labels, as Kubernetes does. The zero value
// selects all.
type Selector struct {
	requirements []requirement
}

type requirement struct {
	key    string
	not    bool     // the others
	values []string // nil: any value
}

// ParseSelector reads a selector in the form that kubectl takes: requirements
// separated by commas, all of which must hold.
//
//	key            the label is there
//	!key           it is not
//	key=value      it has the value; also key==value
//	key!=value     it has another, or is not there
//	key in (a,b)   it has one of the values
//	key notin (a)  it has none of them, or is not there
func ParseSelector(text string) (Selector, error) {
	var selector Selector
	if strings.TrimSpace(text) == "" {
		return selector, nil
	}
	for _, part := range splitRequirements(text) {
		r, err := parseRequirement(strings.TrimSpace(part))
		if err != nil {
			return Selector{}, fmt.Errorf("label selector %q: %w", text, err)
		}
		selector.requirements = append(selector.requirements, r)
	}
	return selector, nil
}

// Empty tells whether the selector selects all.
func (s Selector) Empty() bool { return len(s.requirements) == 0 }

// Matches tells whether an object with these labels is selected.
func (s Selector) Matches(labels map[string]string) bool {
	return !slices.ContainsFunc(s.requirements, func(r requirement) bool {
		value, there := labels[r.key]
		holds := there && (r.values == nil || slices.Contains(r.values, value))
		return holds == r.not
	})
}

// splitRequirements splits at the commas outside of parentheses.
func splitRequirements(text string) []string {
	var parts []string
	depth, begin := 0, 0
	for i, r := range text {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			parts = append(parts, text[begin:i])
			begin = i + 1
		}
	}
	return append(parts, text[begin:])
}

func parseRequirement(text string) (requirement, error) {
	if list, ok := strings.CutSuffix(text, ")"); ok {
		return parseSet(list)
	}
	var r requirement
	if key, value, ok := strings.Cut(text, "="); ok {
		key, r.not = strings.CutSuffix(key, "!")
		r.key, r.values = strings.TrimSpace(key), []string{strings.TrimSpace(strings.TrimPrefix(value, "="))}
		if r.not && strings.HasPrefix(value, "=") {
			return requirement{}, fmt.Errorf("%q: write key!=value", text)
		}
	} else {
		r.key, r.not = strings.CutPrefix(text, "!")
		r.key = strings.TrimSpace(r.key)
	}
	return r, r.check(text)
}

// parseSet reads "key in (a,b" or "key notin (a,b".
func parseSet(text string) (requirement, error) {
	head, list, ok := strings.Cut(text, "(")
	words := strings.Fields(head)
	if !ok || len(words) != 2 || words[1] != "in" && words[1] != "notin" {
		return requirement{}, fmt.Errorf("%q: write key in (a,b) or key notin (a,b)", text+")")
	}
	r := requirement{key: words[0], not: words[1] == "notin", values: []string{}}
	for value := range strings.SplitSeq(list, ",") {
		r.values = append(r.values, strings.TrimSpace(value))
	}
	return r, r.check(text + ")")
}

// check holds the requirement against what can be a label at all, so that a slip of
// the pen does not select nothing, or everything, in silence.
func (r requirement) check(text string) error {
	prefix, name, prefixed := strings.Cut(r.key, "/")
	if !prefixed {
		prefix, name = "", r.key
	}
	if name == "" || prefixed && prefix == "" || !isLabel(name) || !isLabel(prefix) {
		return fmt.Errorf("%q: %q is no label key", text, r.key)
	}
	for _, value := range r.values {
		if !isLabel(value) {
			return fmt.Errorf("%q: %q is no label value", text, value)
		}
	}
	return nil
}

// isLabel tells whether a label's value, or a part of its key, can be this.
func isLabel(s string) bool {
	const longest = 253
	return len(s) <= longest && !strings.ContainsFunc(s, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune("-_.", r)
	})
}
