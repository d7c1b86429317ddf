// Package notice is how the program speaks to its operators: what a line of the
// log looks like, and how often one comes that could come with every order.
//
// # A line
//
// Handler brings every line into one form before it is written, as text or as
// JSON: a time that is not set is left out, a duration reads "1.5s", and neither a
// message nor a value has a line break in it.
//
// # A line that repeats
//
// What befalls one order often befalls thousands at the same time: a partner that
// goes down, a disk that is full. Repeated writes the first such line at once, and
// then for each interval one that says how many more there were. Each of them is
// there at level DEBUG.
//
// # A line about what comes and goes
//
// A server that answers every other call is there and away many times a second.
// Changing writes that it began and that it is over at once, and while it goes on
// like that one line for each interval: how it stands at the end of it, and how many
// more changes there were. Whoever decides that something has changed and tells it does
// both under one lock, so that the last line is about the last change.
package notice
