package main

import (
	"strings"
	"testing"
)

func TestUnknownCommandsAreNamedWithThoseThatThereAre(t *testing.T) {
	for line, want := range map[string][]string{
		"drill":               {`unknown command "drill" for "manna"; did you mean demo?`, "There are: check, claim,", "partner-sim"},
		"drill --help":        {`unknown command "drill" for "manna"`, "There are: check, claim,"},
		"drill -h":            {`unknown command "drill"`},
		"help drill":          {`unknown command "drill" for "manna"`, "There are: check, claim,"},
		"load":                {`unknown command "load"`, "demo"},
		"plan --json":         {`unknown command "plan"`, "did you mean check?"},
		"swich":               {`did you mean switch?`},
		"log versify":         {`unknown command "versify" for "manna log"; did you mean verify?`, "There are: cat, export, ls, repair, restore, verify"},
		"log versify --help":  {`unknown command "versify" for "manna log"`, "verify"},
		"help log versify":    {`unknown command "versify" for "manna log"`, "verify"},
		"completion ksh":      {`unknown command "ksh" for "manna completion"`, "bash, fish"},
		"--config x.yaml abc": {`unknown command "abc" for "manna"`},
	} {
		code, out, errOut := command(t, strings.Fields(line)...)
		if code != exitUsage || strings.Contains(out, "Usage:") {
			t.Errorf("%s: exit code %d, want %d and no help:\n%s", line, code, exitUsage, out)
		}
		for _, w := range want {
			if !strings.Contains(errOut, w) {
				t.Errorf("%s: got %q without %q", line, errOut, w)
			}
		}
	}
}

func TestHelpIsForCommandsThatThereAre(t *testing.T) {
	for line, want := range map[string]string{
		"":                   "manna [command]",
		"--help":             "manna [command]",
		"help":               "manna [command]",
		"help log":           "manna log [command]",
		"log":                "manna log [command]",
		"log cat --help":     "manna log cat [flags]",
		"help log cat":       "manna log cat [flags]",
		"partner x --help":   "manna partner [NAME] [flags]",
		"help partner":       "manna partner [NAME] [flags]",
		"completion":         "manna completion [command]",
		"log --dir x --help": "manna log [command]",
	} {
		code, out, errOut := command(t, strings.Fields(line)...)
		if code != exitDone || errOut != "" || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, %s\n%s", line, code, errOut, out)
		}
	}
}
