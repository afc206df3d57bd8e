package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"sigs.k8s.io/yaml"
)

// print prints a value in the format that the user asked for. text is how
// people read it.
func (a *access) print(out io.Writer, value any, text func(io.Writer) error) error {
	switch a.Output {
	case "":
		var plain strings.Builder
		if err := text(&plain); err != nil {
			return err
		}
		_, err := io.WriteString(out, strings.Map(printable, plain.String()))
		return err
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

// printable keeps from the terminal what could steer it: not everything that is
// shown was written by people who are trusted, such as names in Consul.
func printable(r rune) rune {
	if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
		return unicode.ReplacementChar
	}
	return r
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
