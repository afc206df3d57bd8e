package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"fairway.dev/fairway/internal/diagnosis"
	"fairway.dev/fairway/lab/cluster"
	"fairway.dev/fairway/lab/images"
	"fairway.dev/fairway/lab/timeline"
	"fairway.dev/fairway/lab/workload"
)

// shell is the command fairway as an administrator runs it.
type shell struct {
	t       *testing.T
	lab     *cluster.Cluster
	program string
}

func newShell(t *testing.T) shell {
	t.Helper()
	return fleet.shell(t)
}

// shell is the command fairway for one of several clusters.
func (s side) shell(t *testing.T) shell {
	t.Helper()
	set, err := images.Ensure(bounded(t), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return shell{t, s.lab, set.Shell}
}

// run returns the exit code and what was printed.
func (s shell) run(ctx context.Context, args ...string) (code int, out string) {
	s.t.Helper()
	text, err := workload.Shell(ctx, s.lab, s.program, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), string(text)
	case ctx.Err() != nil:
		return -1, ""
	case err != nil:
		s.t.Fatalf("fairway %s: %v", strings.Join(args, " "), err)
	}
	return 0, string(text)
}

// eventually runs the command until it ends with the code and says all of the
// words, and shows what it said. What is asked about is on its way there.
func (s shell) eventually(code int, words []string, args ...string) string {
	s.t.Helper()
	var out string
	until(s.t, "fairway "+strings.Join(args, " "), func(ctx context.Context) (bool, string, error) {
		got, said := s.run(ctx, args...)
		if got < 0 {
			return false, "no time is left for another try; the last said:\n" + out, nil
		}
		out = said
		missing := ""
		for _, word := range words {
			if !strings.Contains(out, word) {
				missing += fmt.Sprintf(" %q", word)
			}
		}
		return got == code && missing == "", fmt.Sprintf("exit code %d, want %d; without%s:\n%s", got, code, missing, out), nil
	})
	s.t.Logf("$ fairway %s\n%s(exit code %d)", strings.Join(args, " "), out, code)
	return out
}

// TestShellOnHealthyPod: where all is well, every command says so.
func TestShellOnHealthyPod(t *testing.T) {
	app := fresh(t, workload.App{Name: "well", Replicas: 2})
	pod := deployReady(t, app).Pods()[0]
	fairway := newShell(t)

	fairway.eventually(0, []string{
		"pod " + app.Namespace + "/" + pod.Name + " is found by clients",
		app.Name + " is registered as passing", app.Name + ": given to clients; 1 other is passing",
		"open for", "next: nothing to do",
	}, "why", "-n", app.Namespace, "pod/"+pod.Name)
	fairway.eventually(0, []string{"nothing to do; its registry holds"}, "plan")
	fairway.eventually(0, []string{"instances    2", "given        2 to clients", "differences  0"}, "verify", "-n", app.Namespace)
	fairway.eventually(0, []string{
		"all 2 agents are ready", "all 2 nodes: podsapi and informer", "leads, 3 servers in all",
		"fairway-own-node keeps each agent", "fairway-inject adds", "as this program",
	}, "doctor")

	out := fairway.eventually(0, nil, "why", "-n", app.Namespace, pod.Name, "-o", "json")
	var report diagnosis.PodReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || report.Verdict != diagnosis.Found {
		t.Errorf("as JSON: %v, verdict %s", err, report.Verdict)
	}
}

// TestShellOnBadAnnotation: the mistake is the answer.
func TestShellOnBadAnnotation(t *testing.T) {
	app := fresh(t, workload.App{Name: "typo", Replicas: 1, Annotations: map[string]string{"fairway.dev/service-port": "htp"}})
	pods := deploy(t, app)
	waitPods(t, pods, "the pod says what is wrong", func(pods []timeline.Pod) bool {
		return len(pods) == 1 && pods[0].GateReason == "InvalidAnnotation"
	})
	fairway := newShell(t)
	fairway.eventually(1, []string{
		"is not found by clients: fairway.dev/service-port:", `"htp" is neither a number`,
		"next: correct the annotation fairway.dev/service-port",
	}, "why", "-n", app.Namespace, pods.Pods()[0].Name)
	fairway.eventually(1, []string{"BadAnnotation"}, "verify", "-n", app.Namespace)
}

// TestShellWithoutConsulServers: a rollout that halts and a pod that drains say
// what they wait for, and what cannot be found out is not taken for none (I1).
func TestShellWithoutConsulServers(t *testing.T) {
	app := fresh(t, workload.App{Name: "halted", Replicas: 2, Drain: workload.NativeSidecar})
	pods := deployReady(t, app)
	fairway := newShell(t)
	back := stopConsulServers(t)
	roll(t, app, "halted")
	waitPods(t, pods, "a new pod waits for the servers", func(pods []timeline.Pod) bool {
		return len(pods) == 3 && pods[2].Reached(timeline.ContainersReady) && strings.HasPrefix(pods[2].GateReason, "WaitingFor")
	})
	waiting, old := pods.Pods()[2], pods.Pods()[0]
	fairway.eventually(1, []string{"not known: no usable answer from Consul", "not open for", "WaitingForServers"},
		"why", "-n", app.Namespace, waiting.Name)
	remove(t, old)
	fairway.eventually(1, []string{"it asked to be taken out", "waits for", "at most"}, "why", "-n", app.Namespace, old.Name)
	fairway.eventually(2, []string{"no usable answer from Consul"}, "verify", "-n", app.Namespace)
	fairway.eventually(1, []string{"cannot ask the Consul servers", "could not be asked from here"}, "doctor")
	fairway.eventually(0, []string{"n1", "n2"}, "plan") // the nodes' Consul agents have taken all of it

	back()
	waitRolledOut(t, app)
	fairway.eventually(0, []string{"differences  0"}, "verify", "-n", app.Namespace)
	fairway.eventually(0, []string{"leads, 3 servers in all", "2 agents publish without complaint"}, "doctor")
}

// TestI8ShellRights: the rights that docs/cli.md names are enough to find out
// everything.
func TestI8ShellRights(t *testing.T) {
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, _ := strings.Cut(string(page), "```yaml\n")
	rules, _, _ = strings.Cut(rules, "```")
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	app := fresh(t, workload.App{Name: "readable", Replicas: 1})
	account, reader := app.Namespace+":reader", "reader-"+app.Namespace
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := fleet.lab.Kubectl(bounded(t), args...)
		if err != nil {
			t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
		}
		return strings.TrimSpace(out)
	}
	kubectl("apply", "-f", file)
	kubectl("create", "serviceaccount", "-n", app.Namespace, "reader")
	kubectl("create", "clusterrolebinding", reader, "--clusterrole=fairway-reader", "--serviceaccount="+account)
	kubectl("create", "rolebinding", "-n", workload.Namespace, reader, "--role=fairway-reader", "--serviceaccount="+account)
	t.Cleanup(func() {
		if out, err := fleet.lab.Kubectl(context.Background(), "delete", "clusterrolebinding/"+reader, "clusterrole/fairway-reader"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if out, err := fleet.lab.Kubectl(context.Background(), "delete", "-n", workload.Namespace, "rolebinding/"+reader, "role/fairway-reader"); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	config, err := clientcmd.LoadFromFile(fleet.lab.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		*user = clientcmdapi.AuthInfo{Token: kubectl("create", "token", "-n", app.Namespace, "reader")}
	}
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfig); err != nil {
		t.Fatal(err)
	}

	pod := deployReady(t, app).Pods()[0]
	fairway := newShell(t)
	for _, args := range [][]string{{"why", "-n", app.Namespace, pod.Name}, {"plan"}, {"verify", "-n", app.Namespace}, {"services"}, {"doctor"}} {
		out := fairway.eventually(0, nil, append(args, "--kubeconfig", kubeconfig)...)
		if strings.Contains(out, "unknown") {
			t.Errorf("fairway %s does not find out everything:\n%s", args[0], out)
		}
	}
}
