package debian

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// newMachine puts scripts in place of Debian's and sudo's programs. Each adds
// its command line to the returned log.
func newMachine(t *testing.T, scripts map[string]string) (log func() []string) {
	t.Helper()
	bin := t.TempDir()
	path := filepath.Join(bin, "log")
	for name, script := range scripts {
		script = "#!/bin/sh\nprintf '%s\\n' \"" + name + " $*\" >>" + path + "\n" + script + "\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/usr/bin/env", filepath.Join(bin, "env")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	return func() []string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(content)), "\n")
	}
}

const (
	query   = "dpkg-query --show --showformat=${Package} ${db:Status-Status}\\n runc nftables kmod"
	install = "apt-get -y -q -o DPkg::Lock::Timeout=120 install --no-install-recommends nftables kmod"
	update  = "apt-get -y -q -o DPkg::Lock::Timeout=120 update"
	// runc is there, nftables was removed, kmod was never heard of.
	someMissing = "echo runc installed; echo nftables config-files; exit 1"
	// apt-get install works after an update only.
	onceUpdated = `u=${0%/*}/updated; if [ $5 = update ]; then : >$u; else [ -e $u ]; fi`
	noneMissing = "echo kmod installed; echo nftables installed; echo runc installed"
)

func TestEnsure(t *testing.T) {
	for _, test := range []struct {
		name    string
		scripts map[string]string
		user    bool // not root
		want    []string
		errors  string
	}{
		{
			name:    "nothing missing",
			scripts: map[string]string{"dpkg-query": noneMissing},
			want:    []string{query},
		},
		{
			name:    "installs what is missing",
			scripts: map[string]string{"dpkg-query": someMissing, "apt-get": ""},
			want:    []string{query, install},
		},
		{
			name:    "fetches the lists if it has to",
			scripts: map[string]string{"dpkg-query": someMissing, "apt-get": onceUpdated},
			want:    []string{query, install, update, install},
		},
		{
			name:    "sudo without a password",
			user:    true,
			scripts: map[string]string{"dpkg-query": someMissing, "sudo": ""},
			want:    []string{query, "sudo -n true", "sudo -n env DEBIAN_FRONTEND=noninteractive " + install},
		},
		{
			name:    "no sudo",
			user:    true,
			scripts: map[string]string{"dpkg-query": someMissing},
			want:    []string{query},
			errors:  "no sudo: install them yourself with: apt-get install nftables kmod",
		},
		{
			name:    "apt-get fails",
			scripts: map[string]string{"dpkg-query": someMissing, "apt-get": "echo E: no such thing >&2; [ $5 = update ]"},
			want:    []string{query, install, update, install},
			errors:  "E: no such thing",
		},
		{
			name:    "dpkg is broken",
			scripts: map[string]string{"dpkg-query": "exit 2"},
			want:    []string{query},
			errors:  "ask dpkg",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := newMachine(t, test.scripts)
			var out bytes.Buffer
			err := system{out: &out, root: !test.user}.ensure(t.Context(), []string{"runc", "nftables", "kmod"})
			if test.errors == "" && err != nil {
				t.Errorf("error: %v", err)
			}
			if test.errors != "" && (err == nil || !strings.Contains(err.Error(), test.errors)) {
				t.Errorf("error = %v, want %q", err, test.errors)
			}
			if diff := cmp.Diff(test.want, log()); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if said := out.String(); (test.scripts["dpkg-query"] == someMissing) != strings.Contains(said, purpose("nftables")) || strings.Contains(said, "runc") {
				t.Errorf("said:\n%s", said)
			}
		})
	}
}

func TestNotDebian(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := Ensure(t.Context(), t.Output(), "runc")
	if err == nil || !strings.Contains(err.Error(), "no Debian-like system") {
		t.Errorf("error = %v", err)
	}
}

func TestEveryPackageHasAPurpose(t *testing.T) {
	for _, name := range append(ForLab(), ForRace()...) {
		if purpose(name) == purpose("unknown") {
			t.Errorf("nobody can say what %s is for", name)
		}
	}
}

// TestEnsureReal asks this machine's own dpkg for a package that every machine
// with dpkg has, so that it never installs anything.
func TestEnsureReal(t *testing.T) {
	start := time.Now()
	if err := Ensure(t.Context(), t.Output(), "dpkg"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("with nothing to do it took %s", d)
	}
}
