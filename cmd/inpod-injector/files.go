package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/inpod/inpod/injector"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// The images that are used where no flag names others.
const (
	defaultImage         = "inpod/base:latest"
	defaultRedirectImage = "inpod/injector:latest"
)

// offlineFlags are those of inject and check.
type offlineFlags struct {
	file, mode, image, redirectImage, defaults, kubernetes, podSecurity string
	lookup                                                              bool
}

func (f *offlineFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.file, "filename", "f", "", "manifest to read; - is standard input")
	cmd.Flags().StringVar(&f.mode, "mode", "", "wrap or sidecar, for pods that have no label inpod.dev/inject")
	cmd.Flags().StringVar(&f.image, "image", defaultImage, "image that holds inpod")
	cmd.Flags().StringVar(&f.redirectImage, "redirect-image", defaultRedirectImage, "image that holds inpod-injector")
	cmd.Flags().StringVar(&f.defaults, "defaults", "", "YAML file with defaults, as the chart's injector.defaults")
	cmd.Flags().StringVar(&f.kubernetes, "kubernetes", "", "version of the cluster, such as 1.34")
	cmd.Flags().StringVar(&f.podSecurity, "pod-security", "", "Pod Security level of the namespace: privileged, baseline or restricted")
	cmd.Flags().BoolVar(&f.lookup, "lookup", false, "ask registries what images start, with the credentials of docker login")
	cobra.CheckErr(cmd.MarkFlagRequired("filename"))
}

// read gives the manifest to the injector.
func (f *offlineFlags) read(cmd *cobra.Command) ([]byte, []injector.Found, error) {
	defaults, err := readDefaults(f.defaults)
	if err != nil {
		return nil, nil, err
	}
	minor, err := parseMinor(f.kubernetes)
	if err != nil {
		return nil, nil, err
	}
	if modes := []string{injector.Wrap, injector.Sidecar}; f.mode != "" && !slices.Contains(modes, f.mode) {
		return nil, nil, fmt.Errorf("cannot use --mode %q: want %s", f.mode, strings.Join(modes, " or "))
	}
	if levels := []string{"privileged", "baseline", "restricted"}; f.podSecurity != "" && !slices.Contains(levels, f.podSecurity) {
		return nil, nil, fmt.Errorf("cannot use --pod-security %q: want one of %s", f.podSecurity, strings.Join(levels, ", "))
	}
	o := injector.Offline{Mode: f.mode, Settings: injector.Settings{
		Image: f.image, RedirectImage: f.redirectImage, Defaults: defaults, Minor: minor, PodSecurity: f.podSecurity,
	}}
	if f.lookup {
		o.Settings.Images = (&injector.Registry{Local: true}).With(authn.DefaultKeychain)
	}
	in := cmd.InOrStdin()
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read the manifest: %w", err)
		}
		defer file.Close()
		in = io.Reader(file)
	}
	out, found, err := o.Inject(cmd.Context(), in)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the manifest: %s: %w", f.file, err)
	}
	return out, found, nil
}

func readDefaults(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read --defaults: %w", err)
	}
	var any map[string]any
	if err := yaml.Unmarshal(text, &any); err != nil {
		return nil, fmt.Errorf("cannot read --defaults %s: %w", file, err)
	}
	defaults := map[string]string{}
	for key, value := range any {
		text, ok := injector.FromYAML(key, value)
		if !ok {
			return nil, fmt.Errorf("cannot read --defaults %s: %s is neither a text nor a number", file, key)
		}
		defaults[key] = text
	}
	if err := injector.CheckDefaults(defaults); err != nil {
		return nil, fmt.Errorf("cannot use --defaults %s: %w", file, err)
	}
	return defaults, nil
}

func parseMinor(version string) (int, error) {
	if version == "" {
		return 0, nil
	}
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	if len(parts) >= 2 && parts[0] == "1" {
		if n, err := strconv.Atoi(parts[1]); err == nil && n > 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("cannot use --kubernetes %q: want a version such as 1.34", version)
}

func newInject() *cobra.Command {
	var f offlineFlags
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Put inpod into the pods of a manifest",
		Long: "inject reads Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs and lists of them, and prints the\n" +
			"manifest with inpod in those whose pods have the label inpod.dev/inject. Everything else comes out as it went in. Namespaces and\n" +
			"ConfigMaps of the same file count as they would in a cluster. What is refused is said on standard error; then nothing is\n" +
			"printed and the exit code is 1.",
		Example: "  inpod-injector inject -f app.yaml | kubectl apply -f -",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, found, err := f.read(cmd)
			if err != nil {
				return err
			}
			failed := false
			for _, one := range found {
				for _, w := range one.Report.Warnings {
					fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s: %s\n", one.Object, w)
				}
				if one.Err != nil {
					failed = true
					fmt.Fprintf(cmd.ErrOrStderr(), "error: line %d: %s: %v\n", one.Line, one.Object, one.Err)
				}
			}
			if failed {
				return errTold
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	f.register(cmd)
	return cmd
}

func newCheck() *cobra.Command {
	var f offlineFlags
	cmd := &cobra.Command{
		Use:   "check -f FILE",
		Short: "Say what would be done to the pods of a manifest, and why",
		Long:  "check reads what inject reads and says in sentences what inject would do. It exits with 1 when a pod would be refused.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, found, err := f.read(cmd)
			if err != nil {
				return err
			}
			injector.Explain(cmd.OutOrStdout(), found)
			for _, one := range found {
				if one.Err != nil {
					return errTold
				}
			}
			return nil
		},
	}
	f.register(cmd)
	return cmd
}
