package cluster

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread that is inside the named network namespace. Sockets that f makes
// belong to that namespace for as long as they live. f must not start goroutines that do.
func inNamespace(name string, f func() error) error {
	target, err := os.Open(namespacePath(name))
	if err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer target.Close()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, so the runtime ends it together with this goroutine instead of
		// running other goroutines in the wrong namespace.
		return fmt.Errorf("leave network namespace %s: %w", name, back)
	}
	runtime.UnlockOSThread()
	return err
}

// unmount detaches what is mounted at path, now or when its last user has gone.
func unmount(path string) error {
	return os.NewSyscallError("umount "+path, unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW))
}

// fileID identifies a file, such as a namespace, whatever its path.
type fileID struct{ device, inode uint64 }

// identify returns false if there is no such file (any more).
func identify(path string) (fileID, bool) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return fileID{}, false
	}
	return fileID{device: stat.Dev, inode: stat.Ino}, true
}

// lockFile takes an exclusive lock that lasts until the file is closed or the process ends.
func lockFile(f *os.File) error {
	return os.NewSyscallError("flock", unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
}
