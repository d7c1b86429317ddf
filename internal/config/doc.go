// Package config reads Manna's one YAML file into one Config.
//
// # The file
//
// The comments on Config and the types below it name every key, its unit and
// its default. Unknown keys and keys written twice are refused. A file has at
// most 1 MiB and 100,000 tokens and nests at most 32 deep, whatever its aliases
// multiply to; anchors, aliases and merge keys (<<) work within that.
//
// Paths are relative to the directory of the file.
//
// # Errors
//
// Load and Parse give either a Config or Errors: all that is wrong, each with
// file, line, column, the line with a caret and what to write instead. There is
// no half-read Config. What is odd but may be meant is in Config.Warnings.
//
// Secrets and keys are held to package credential: one that is malformed or too
// weak is an error of the file. A partner's weak secret is a warning, for it may
// be the partner's choice.
//
// # Secrets
//
// ${NAME} in a text (a secret, an address, a path, a header, a body) stands for
// an environment variable; $${ is a literal ${. Numbers, durations, rates and
// names are written out. What a variable holds is in no error, no warning and
// no output: errors show the file as it is written, and what the file itself
// holds under a key like secret, dsn, password, token or authorization is masked
// there too. Secret keeps its text from being printed by accident.
package config
