package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for name, tc := range map[string]struct {
		line string
		ok   bool
	}{
		"plain":             {"42 (etcd)" + rest, true},
		"hostile name":      {"42 (a) S 9 (b))" + rest, true},
		"name with newline": {"42 (a\nb)" + rest, true},
		"too short":         {"42 (etcd) S 1 2", false},
		"empty":             {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat(tc.line)
			if (err == nil) != tc.ok {
				t.Fatalf("error %v, want ok: %v", err, tc.ok)
			}
			if tc.ok && (got != procStat{state: 'S', threads: 17, started: 4711}) {
				t.Errorf("%+v; want state S, 17 threads, start time 4711", got)
			}
		})
	}
}

// TestNeverSignalsAStranger: a process that merely has the recorded PID is not ours.
func TestNeverSignalsAStranger(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	stat, err := readStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	stranger := &Process{Host: "h", Name: "p", PID: cmd.Process.Pid, Started: stat.started + 1}
	if stranger.Alive() {
		t.Error("a stranger counts as ours")
	}
	if err := stranger.signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	own := &Process{Host: "h", Name: "p", PID: cmd.Process.Pid, Started: stat.started}
	if !own.Alive() {
		t.Fatal("a stranger was killed")
	}
	if err := own.signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-exited
	if own.Alive() {
		t.Error("a process that has ended counts as alive")
	}
}

// TestEndedFreesTheAddress: what has ended holds no address any more, however many threads it had.
func TestEndedFreesTheAddress(t *testing.T) {
	for range 20 {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestHelperManyThreads$")
		cmd.Env = append(os.Environ(), manyThreads+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		stat, err := readStat(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		p := &Process{Host: "h", Name: "p", PID: cmd.Process.Pid, Started: stat.started}
		if err := p.signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for p.Alive() {
			runtime.Gosched()
		}
		listener, err := net.Listen("tcp", strings.TrimSpace(addr))
		if err != nil {
			t.Fatal(err)
		}
		listener.Close()
		_ = cmd.Wait()
	}
}

const manyThreads = "FAIRWAY_TEST_MANY_THREADS"

// TestHelperManyThreads is the process that TestEndedFreesTheAddress ends.
func TestHelperManyThreads(t *testing.T) {
	if os.Getenv(manyThreads) == "" {
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var locked sync.WaitGroup
	for range 200 {
		locked.Add(1)
		go func() {
			runtime.LockOSThread()
			locked.Done()
			select {}
		}()
	}
	locked.Wait()
	fmt.Println(listener.Addr())
	select {}
}

func TestAwait(t *testing.T) {
	missing := errors.New("missing")
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		err := await(t.Context(), "it", func(context.Context) error {
			if asked++; asked < 3 {
				return missing
			}
			return nil
		})
		if err != nil || asked != 3 {
			t.Errorf("await = %v after asking %d times; want nil after 3", err, asked)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := await(ctx, "it", func(context.Context) error { return missing }); !errors.Is(err, missing) {
			t.Errorf("after the time is up: %v, want what was missing", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answers := 0
		err := await(ctx, "it", func(ctx context.Context) error {
			if answers++; answers < 3 {
				return missing
			}
			<-ctx.Done() // the third question is still open when the time is up
			return ctx.Err()
		})
		if !errors.Is(err, missing) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the time is up in the middle of a question: %v, want what was missing", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		err := await(t.Context(), "it", func(context.Context) error { return errFatal })
		if !errors.Is(err, errFatal) || time.Since(begin) != 0 {
			t.Errorf("what cannot recover: %v after %s; want it at once", err, time.Since(begin))
		}
	})
}

func TestParseMounts(t *testing.T) {
	const mountinfo = `22 1 254:0 / / rw - ext4 /dev/vda rw
90 22 0:4 net:[1] /run/netns/fw-lab-n1 rw - nsfs nsfs rw
91 22 0:5 / /var/lib/fairway-lab/lab/n1/kubelet/pods/x rw - tmpfs tmpfs rw
92 22 0:6 / /var/lib/fairway-lab/lab2/n1/kubelet/pods/x rw - tmpfs tmpfs rw
93 91 0:7 / /var/lib/fairway-lab/lab/n1/kubelet/pods/x/y rw - tmpfs tmpfs rw
`
	got := parseMounts(bufio.NewScanner(strings.NewReader(mountinfo)), "/var/lib/fairway-lab/lab")
	want := []string{"/var/lib/fairway-lab/lab/n1/kubelet/pods/x", "/var/lib/fairway-lab/lab/n1/kubelet/pods/x/y"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func TestTaskRuns(t *testing.T) {
	const table = "TASK    PID     STATUS    \nabc     12      RUNNING\ndef     13      STOPPED\n"
	for id, want := range map[string]bool{"abc": true, "def": false, "ghi": false} {
		if got := taskRuns(table, id); got != want {
			t.Errorf("task %s runs: %v, want %v", id, got, want)
		}
	}
}
