// Command pause is the first process of a pod's sandbox. It does nothing but
// exist, so that the pod's namespaces do, and collects the exit codes of
// processes whose parents are gone.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// Two channels: a signal that finds its channel full is lost, and the end
	// must not be lost to a crowd of dying children.
	stop, child := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(child, syscall.SIGCHLD)
	for {
		reap() // also those that died before signals were noted
		select {
		case <-child:
		case <-stop:
			return
		}
	}
}

// reap collects all children that have ended. The signals of children that die
// at the same time are merged into one.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if err != syscall.EINTR && pid <= 0 {
			return
		}
	}
}
