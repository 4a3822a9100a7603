package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("lint", flag.ContinueOnError)
	flags.SetOutput(errs)
	only := flags.Bool("static", false, "look at the files only, not at the images that were built")
	all := flags.Bool("all", false, "an image that was not built is a fault")
	root := flags.String("C", ".", "the repository's `root`")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	names := flags.Args()
	if len(names) == 0 {
		files, err := filepath.Glob(filepath.Join(*root, "images/*/Dockerfile"))
		if err != nil || len(files) == 0 {
			fmt.Fprintf(errs, "lint: there is no images/*/Dockerfile in %s\n", *root)
			return 2
		}
		for _, f := range files {
			names = append(names, filepath.Base(filepath.Dir(f)))
		}
	}
	var client *docker
	if !*only {
		var err error
		if client, err = connect(*root); err != nil && *all {
			fmt.Fprintln(errs, "lint:", err)
			return 2
		} else if err != nil {
			fmt.Fprintf(out, "only the files are looked at: %v\n", err)
		}
	}
	failed := 0
	for _, name := range names {
		faults, said, err := look(*root, name, client, *all)
		if err != nil {
			fmt.Fprintf(errs, "lint: cannot look at %s: %v\n", name, err)
			return 2
		}
		for _, f := range faults {
			fmt.Fprintln(out, f)
		}
		if len(faults) > 0 {
			failed++
			continue
		}
		fmt.Fprintf(out, "ok    %s %s\n", name, said)
	}
	if failed > 0 {
		fmt.Fprintf(out, "%d of %d images break the rules of images/README.md\n", failed, len(names))
		return 1
	}
	return 0
}

// look returns the faults of one image, and otherwise a few words about it.
func look(root, name string, client *docker, all bool) (faults []fault, said string, err error) {
	files := os.DirFS(root)
	img, faults, err := static(files, name)
	if err != nil {
		return nil, "", err
	}
	if client == nil {
		return faults, "(its files)", nil
	}
	b, err := client.image(name)
	if err != nil {
		return nil, "", err
	}
	if b == nil {
		if all {
			faults = append(faults, img.at(0, "there is no image inpod/%s: hack/images.sh %s builds it", name, name))
		}
		return faults, "(its files; it was not built)", nil
	}
	more, err := b.check(img)
	if err != nil {
		return nil, "", err
	}
	return append(faults, more...), fmt.Sprintf("%s, %d MB, %d layers of its own", b.Config.Labels[versionLabel], b.Size/1e6, b.own), nil
}

// fault is one thing that is wrong.
type fault struct {
	file string
	line int // 0: the file as a whole
	text string
}

func (f fault) String() string {
	if f.line == 0 {
		return f.file + ": " + f.text
	}
	return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.text)
}

// docker is the client of a daemon that answers.
type docker struct{ client string }

func connect(root string) (*docker, error) {
	script := filepath.Join(root, "hack/dockerd.sh")
	client, err := exec.Command(script, "client").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot find the docker client: %w", err)
	}
	host, err := exec.Command(script, "host").Output()
	if err != nil {
		return nil, fmt.Errorf("no dockerd runs here; as root, hack/dockerd.sh start starts one")
	}
	return &docker{client: strings.TrimSpace(string(client))}, os.Setenv("DOCKER_HOST", strings.TrimSpace(string(host)))
}

func (d *docker) run(args ...string) ([]byte, error) {
	var said bytes.Buffer
	cmd := exec.CommandContext(context.Background(), d.client, args...)
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out, nil
}
