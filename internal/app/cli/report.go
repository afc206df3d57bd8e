package cli

import (
	"fmt"
	"io"
	"strings"

	"fairway.dev/fairway/internal/diagnosis"
)

// writeReport writes findings for people: the answer first, then what it rests
// on, and last what to do.
func writeReport(out io.Writer, headline string, sections []diagnosis.Section, next string) error {
	var text strings.Builder
	if headline != "" {
		text.WriteString(headline + "\n\n")
	}
	width := 0
	for _, section := range sections {
		width = max(width, len(section.Title))
	}
	for _, section := range sections {
		title := section.Title
		for _, finding := range section.Findings {
			fmt.Fprintf(&text, "%-*s  %-7s  %s\n", width, title, finding.State, finding.Text)
			title = "" // said once
			if finding.Remedy != "" && finding.Remedy != next {
				fmt.Fprintf(&text, "%-*s  %-7s  > %s\n", width, "", "", finding.Remedy)
			}
		}
	}
	if next != "" {
		text.WriteString("\nnext: " + next + "\n")
	}
	_, err := io.WriteString(out, text.String())
	return err
}
