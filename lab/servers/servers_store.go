package servers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"fairway.dev/fairway/internal/image/gobuild"
)

// store keeps what was built, one folder for each family and set of inputs.
// A folder that is there is complete: it gets its name by a rename.
type store struct {
	dir       string // where the folders are
	modules   string // where the nested modules are
	toolchain string // the toolchain's version and target
	out       io.Writer
}

// ensure returns the paths of a family's programs by name, and builds them if
// the store does not have them.
func (s store) ensure(ctx context.Context, r recipe) (map[string]string, error) {
	build, key, err := s.plan(r)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", r.module, err)
	}
	dir := filepath.Join(s.dir, r.module+"-"+key)
	paths, err := programs(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return paths, err
	}
	unlock, err := gobuild.Lock(ctx, filepath.Join(s.dir, "lock"), func() {
		fmt.Fprintf(s.out, "waiting for another process that builds servers\n")
	})
	if err != nil {
		return nil, err
	}
	defer unlock()
	// The other process may have built just this.
	paths, err = programs(dir)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return paths, err
	}
	if err := s.build(ctx, r, build, dir); err != nil {
		return nil, err
	}
	return programs(dir)
}

// plan returns how to build a family, and a key made from all that decides
// what comes out.
func (s store) plan(r recipe) (gobuild.Build, string, error) {
	module := filepath.Join(s.modules, r.module)
	goMod, err := os.ReadFile(filepath.Join(module, "go.mod"))
	if err != nil {
		return gobuild.Build{}, "", err
	}
	goSum, err := os.ReadFile(filepath.Join(module, "go.sum"))
	if err != nil {
		return gobuild.Build{}, "", err
	}
	stamps, err := r.stamps(goMod)
	if err != nil {
		return gobuild.Build{}, "", err
	}
	build := gobuild.Build{
		Name:     r.module,
		Dir:      module,
		Packages: []string{"tool"},
		Tags:     r.tags,
		Stamp:    stamps,
		Usual:    r.usual,
		Log:      s.out,
	}
	sources, err := readSources(module)
	if err != nil {
		return gobuild.Build{}, "", err
	}
	hash := sha256.New()
	for _, input := range append(sources, goMod, goSum, []byte(build.Inputs()), []byte(s.toolchain), fmt.Append(nil, r.rename)) {
		fmt.Fprintf(hash, "%d\n", len(input))
		hash.Write(input)
	}
	return build, fmt.Sprintf("%x", hash.Sum(nil)[:6]), nil
}

// readSources reads the programs that a module has of its own; most have none.
func readSources(module string) ([][]byte, error) {
	files, err := filepath.Glob(filepath.Join(module, "*.go"))
	if err != nil {
		return nil, err
	}
	var sources [][]byte
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source)
	}
	return sources, nil
}

// build builds a family and then gives its folder the final name. The caller
// holds the lock, so a partial folder can only be left by a killed build.
func (s store) build(ctx context.Context, r recipe, build gobuild.Build, dir string) error {
	build.Out = dir + ".partial"
	if err := os.RemoveAll(build.Out); err != nil {
		return fmt.Errorf("remove an unfinished build: %w", err)
	}
	err := build.Run(ctx)
	for from, to := range r.rename {
		if err == nil {
			err = os.Rename(filepath.Join(build.Out, from), filepath.Join(build.Out, to))
		}
	}
	if err == nil {
		err = os.Rename(build.Out, dir)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(build.Out))
	}
	return nil
}

// programs returns the paths of the programs in a folder of the store by name.
func programs(dir string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for servers: %w", err)
	}
	paths := map[string]string{}
	for _, entry := range entries {
		paths[entry.Name()] = filepath.Join(dir, entry.Name())
	}
	return paths, nil
}
