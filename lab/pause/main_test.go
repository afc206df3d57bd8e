package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test's own binary play the program.
func TestMain(m *testing.M) {
	if os.Getenv("PLAY_PAUSE") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestReapsAndStops starts pause as the parent of processes that it did not
// start, as in a pod whose containers share a process namespace.
func TestReapsAndStops(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The shell becomes pause: its children are now pause's.
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `for i in 1 2 3; do sleep 0.05 & echo $!; done; exec "$0"`, self)
	cmd.Env = append(os.Environ(), "PLAY_PAUSE=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for range 3 {
		pid, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		awaitGone(t, "/proc/"+strings.TrimSpace(pid))
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("pause ended with %v, want success", err)
	}
}

// awaitGone waits until a process has not only ended but been collected: the
// folder of a zombie stays.
func awaitGone(t *testing.T, folder string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if _, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Errorf("%s is still there", folder)
}
