// Package fault is a reverse proxy that stands in front of an API server or a
// kubelet and, on demand, answers in its place the way a sick one would.
//
// It ends TLS and passes the rest of a request on unchanged, the Authorization
// header above all, so that the server behind it still decides who may do what.
// Clients that authenticate by certificate cannot be behind it.
package fault

import (
	"fmt"
	"slices"
)

// Mode is what the proxy does with requests.
type Mode string

// The modes there are.
const (
	Off       Mode = "off"     // pass everything on
	Forbidden Mode = "403"     // refuse, as if the rights were gone
	Broken    Mode = "500"     // fail, as a server does that has lost its store
	Garbage   Mode = "garbage" // answer 200 with something that is not JSON
	Empty     Mode = "empty"   // answer that nothing of the kind asked for exists
	// Elsewhere answers as the API server of another cluster: no list has
	// anything, and no object that is asked for by name exists.
	Elsewhere Mode = "elsewhere"
	Hang      Mode = "hang" // take the request and say nothing until the mode changes
)

// Modes returns all modes.
func Modes() []Mode { return []Mode{Off, Forbidden, Broken, Garbage, Empty, Elsewhere, Hang} }

// ParseMode returns the mode of that name.
func ParseMode(name string) (Mode, error) {
	if mode := Mode(name); slices.Contains(Modes(), mode) {
		return mode, nil
	}
	return "", fmt.Errorf("no fault is called %q: there is %v", name, Modes())
}
