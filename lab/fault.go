package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairway.dev/fairway/lab/cluster"
)

// undoTimeout bounds the end of a fault.
const undoTimeout = 30 * time.Second

// fault puts a fault in force. A nil Undo means that there is nothing to undo.
type fault func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error)

// faultVerb is one fault as a command.
type faultVerb struct {
	use, short string
	args       int
	run        fault
}

func faultCommand(name *string) *cobra.Command {
	parent := &cobra.Command{
		Use:   "fault",
		Short: "Break something; it is mended on Ctrl-C, or after --for",
	}
	hold := parent.PersistentFlags().Duration("for", 0, "mend after this time; 0 is on Ctrl-C")
	for _, verb := range append(processFaults(), otherFaults()...) {
		parent.AddCommand(&cobra.Command{
			Use:   verb.use,
			Short: verb.short,
			Args:  cobra.ExactArgs(verb.args),
			RunE: func(cmd *cobra.Command, args []string) error {
				return holdFault(cmd, *name, verb.run, args, *hold)
			},
		})
	}
	return parent
}

// holdFault puts a fault in force, waits, and undoes it.
func holdFault(cmd *cobra.Command, name string, run fault, args []string, hold time.Duration) error {
	lab, err := cluster.Open(name)
	if err != nil {
		return err
	}
	undo, err := run(cmd.Context(), lab, args)
	if err != nil || undo == nil {
		return err
	}
	out := cmd.OutOrStdout()
	until := "until Ctrl-C"
	var over <-chan time.Time
	if hold > 0 {
		until, over = "for "+hold.String(), time.After(hold)
	}
	fmt.Fprintf(out, "in force %s: %s %s\n", until, cmd.Name(), strings.Join(args, " "))
	select {
	case <-cmd.Context().Done():
	case <-over:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), undoTimeout)
	defer cancel()
	if err := undo(ctx); err != nil {
		return fmt.Errorf("mend %s: %w", cmd.Name(), err)
	}
	fmt.Fprintln(out, "mended")
	return nil
}

func processFaults() []faultVerb {
	return []faultVerb{
		{"kill HOST/PROCESS", "Kill a process; mending starts it again", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.Kill(ctx, args[0])
			}},
		{"stop HOST/PROCESS", "Stop a process gracefully; mending starts it again", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.Stop(ctx, args[0])
			}},
		{"pause HOST/PROCESS", "Freeze a process; mending lets it go on", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.Pause(ctx, args[0])
			}},
		{"start HOST/PROCESS", "Start a process that has ended; nothing to mend", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return nil, lab.Start(ctx, args[0])
			}},
		{"restart HOST/PROCESS", "Stop a process and start it again; nothing to mend", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return nil, lab.Restart(ctx, args[0])
			}},
		{"kill-container NODE NAME", "Kill a container; its kubelet mends it", 2,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return nil, lab.KillContainer(ctx, args[0], args[1])
			}},
	}
}

func otherFaults() []faultVerb {
	return []faultVerb{
		{"cut HOST", "Unplug a host's cable", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.CutLink(ctx, args[0])
			}},
		{"delay HOST DURATION", "Make packets to a host late, where the kernel can", 2,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				d, err := time.ParseDuration(args[1])
				if err != nil {
					return nil, err
				}
				return lab.DelayLink(ctx, args[0], d)
			}},
		{"partition HOST,... HOST,...", "Drop all packets between two sets of hosts", 2,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.Partition(ctx, strings.Split(args[0], ","), strings.Split(args[1], ","))
			}},
		{"wipe NODE", "Make a node's Consul agent lose its data", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.WipeConsulAgent(ctx, args[0])
			}},
		{"wipe-servers", "Make the Consul servers lose their data; nothing to mend", 0,
			func(ctx context.Context, lab *cluster.Cluster, _ []string) (cluster.Undo, error) {
				return nil, lab.WipeConsulServers(ctx)
			}},
		{"revoke TOKEN", "Revoke a Consul token: fairway, fairway-catalog, or agent- and a node", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				accessor := lab.ConsulAccessor(args[0])
				if accessor == "" {
					return nil, errors.New("the lab has no Consul token " + args[0])
				}
				return lab.RevokeToken(ctx, accessor)
			}},
		{"unready POD", "Make a pod of the sample app, NAME or NAMESPACE/NAME, not ready", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.Unready(ctx, args[0])
			}},
		{"api MODE", "Make the API server answer service accounts with 403, 500, garbage, empty, elsewhere or hang", 1,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.APIFault(ctx, args[0])
			}},
		{"kubelet NODE MODE", "Make a kubelet answer with 403, 500, garbage, empty or hang", 2,
			func(ctx context.Context, lab *cluster.Cluster, args []string) (cluster.Undo, error) {
				return lab.KubeletFault(ctx, args[0], args[1])
			}},
	}
}
