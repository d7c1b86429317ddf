package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the release build with -ldflags "-X main.version=…".
var version string

// programVersion is the release, or of any other build the commit that it was made from,
// so that an operator sees which nodes are not the same; "dev" where that is not known.
func programVersion() string {
	commit := ""
	if build, ok := debug.ReadBuildInfo(); ok && build.Main.Version != "(devel)" {
		commit = build.Main.Version
	}
	return cmp.Or(version, commit, "dev")
}

func newVersion(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			info := struct {
				Version  string `json:"version"`
				Revision string `json:"revision,omitempty"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{Version: programVersion(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if build, ok := debug.ReadBuildInfo(); ok {
				for _, s := range build.Settings {
					if s.Key == "vcs.revision" {
						info.Revision = s.Value
					}
				}
			}
			if e.json {
				return json.NewEncoder(e.out).Encode(info)
			}
			_, err := fmt.Fprintf(e.out, "manna %s %s %s\n", info.Version, info.Go, info.Platform)
			return err
		},
	}
}
