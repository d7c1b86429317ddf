package main

import (
	"slices"

	"github.com/spf13/cobra"

	"manna/fallbacklog"
	"manna/gift"
	"manna/internal/config"
)

// Shells complete words by asking the hidden command __complete. Whatever is not
// said here completes to nothing: cobra would offer files.

// completeRoot sets what holds for every command.
func completeRoot(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	completeFlag(root, "config", files("yaml", "yml"))
}

// completeFlag says what completes the value of a flag.
func completeFlag(cmd *cobra.Command, flag string, with cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, with); err != nil {
		panic(err) // there is no such flag, or it has one already
	}
}

// files completes to files with one of the endings.
func files(endings ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return endings, cobra.ShellCompDirectiveFilterFileExt
	}
}

// directories completes to directories.
func directories(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// words completes to fixed words.
func words(list ...string) cobra.CompletionFunc {
	return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
}

// arguments completes each argument in its own way, and further ones to nothing.
func arguments(each ...cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(each) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return each[len(args)](cmd, args, begun)
	}
}

// configured completes to names from the configuration file. Where that cannot be
// read there are none: somebody is in the middle of a line.
func (e *env) configured(names func(*config.Config) []string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		c, err := config.Load(e.config)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(c), cobra.ShellCompDirectiveNoFileComp
	}
}

func partnerNames(c *config.Config) (names []string) {
	for _, p := range c.Partners {
		names = append(names, p.Name)
	}
	return names
}

// switchNames: every partner has a switch.
func switchNames(c *config.Config) (names []string) {
	for _, p := range c.Partners {
		names = append(names, "partner/"+p.Name)
	}
	return names
}

func campaignNames(c *config.Config) (names []string) {
	for _, k := range c.Campaigns {
		names = append(names, k.Name)
	}
	return names
}

// kindNames are the kinds of records that a log may hold.
func kindNames() (names []string) {
	for k := fallbacklog.Claimed; ; k++ {
		if _, err := fallbacklog.ParseKind(k.String()); err != nil {
			return names
		}
		names = append(names, k.String())
	}
}

// sceneNames are those of the campaign that the command line names, or of all.
func sceneNames(campaign *string) func(*config.Config) []string {
	return ofCampaign(campaign, func(k *gift.Campaign) (names []string) {
		for _, s := range k.Scenes {
			names = append(names, s.Name)
		}
		return names
	})
}

// giftNames are those of the campaign that the command line names, or of all.
func giftNames(campaign *string) func(*config.Config) []string {
	return ofCampaign(campaign, func(k *gift.Campaign) (names []string) {
		for _, g := range k.Gifts {
			names = append(names, g.Name)
		}
		return names
	})
}

func ofCampaign(campaign *string, names func(*gift.Campaign) []string) func(*config.Config) []string {
	return func(c *config.Config) (all []string) {
		for _, k := range c.Campaigns {
			if *campaign == "" || *campaign == k.Name {
				all = append(all, names(k)...)
			}
		}
		return slices.DeleteFunc(all, func(name string) bool { return name == "" })
	}
}
