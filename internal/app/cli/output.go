package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"sigs.k8s.io/yaml"
)

// print prints a value in the format that the user asked for. text is how
// people read it.
func (a *access) print(out io.Writer, value any, text func(io.Writer) error) error {
	switch a.Output {
	case "":
		return text(out)
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	case "yaml":
		data, err := yaml.Marshal(value)
		if err != nil {
			return fmt.Errorf("write YAML: %w", err)
		}
		_, err = out.Write(data)
		return err
	}
	return a.validate()
}

// validate says what is wrong with the flags that all commands share.
func (a *access) validate() error {
	switch a.Output {
	case "", "json", "yaml":
	default:
		return fmt.Errorf("--output %q: must be json or yaml; without it, text is printed for people", a.Output)
	}
	if a.Timeout <= 0 {
		return fmt.Errorf("--timeout %s: must be more than 0", a.Timeout)
	}
	return nil
}
