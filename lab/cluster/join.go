package cluster

import (
	"fmt"
	"path/filepath"
)

// joinable says what keeps t from joining the lab that it names, if it names one.
func joinable(t Topology) error {
	if t.Join == "" {
		return nil
	}
	other, err := Open(t.Join)
	switch {
	case err != nil:
		return fmt.Errorf("join lab %s: %w", t.Join, err)
	case !anyAlive(t.Join):
		return fmt.Errorf("join lab %s: it does not run any more", t.Join)
	case other.Join != "":
		return fmt.Errorf("join lab %s: it has joined lab %s itself", t.Join, other.Join)
	}
	others, err := joined(t.Join)
	if err != nil {
		return err
	}
	for _, name := range others {
		if name != t.Name {
			return fmt.Errorf("join lab %s: lab %s has, and there are addresses for one only", t.Join, name)
		}
	}
	return nil
}

// joined names the labs that run and have joined the named one. A record that cannot be read is no
// reason not to take down another lab.
func joined(name string) ([]string, error) {
	records, err := filepath.Glob(filepath.Join(StateDir, "*", stateFile))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, path := range records {
		other, err := load(filepath.Base(filepath.Dir(path)))
		if err == nil && other.Join == name && anyAlive(other.Name) {
			names = append(names, other.Name)
		}
	}
	return names, nil
}
