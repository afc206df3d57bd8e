package agentapi

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNotedTTLIsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ttl := time.Duration(rapid.Int64Range(1, 1<<62).Draw(t, "ttl"))
		if got := notedTTL(checkNotes(ttl)); got != ttl {
			t.Fatalf("%q is read as %s", checkNotes(ttl), got)
		}
	})
}

// Notes that Fairway would not have written hold no TTL, so that they are
// repaired.
func FuzzNotedTTL(f *testing.F) {
	f.Add(checkNotes(72 * time.Hour))
	f.Add(notesBefore + "60s" + notesAfter) // means 1m0s, and is not how that is written
	f.Add(notesBefore + "-1m0s" + notesAfter)
	f.Add(notesBefore + "1m0s")
	f.Add("1m0s.")
	f.Add("")
	f.Fuzz(func(t *testing.T, notes string) {
		if ttl := notedTTL(notes); ttl < 0 || ttl > 0 && checkNotes(ttl) != notes {
			t.Errorf("%q is read as %s", notes, ttl)
		}
	})
}
