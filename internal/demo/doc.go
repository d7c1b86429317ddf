// Package demo runs the whole pipeline on one machine in about a minute: a server
// and three partners as processes of their own, claims over HTTP several times
// faster than the partners take them, a fifth of them repeats, and a SIGKILL of
// the server half way. It ends with a reconciliation and with Manna's six
// promises checked from the partners' own books.
//
// With servers for queue, guard, ledger and archive it is the same night over six
// nodes: two fronts, three that deliver and one that reconciles. The broker, a front
// and one that delivers are killed.
//
// Nothing in it is simulated inside the server: the demo writes a configuration
// as a user would and starts `manna serve --dev` and `manna partner-sim` from its
// own executable.
package demo
