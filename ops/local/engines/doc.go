// Package engines runs the real servers that a cluster of Manna leans on, on one
// Linux machine and without containers: a RocketMQ name server and broker,
// memcached, PostgreSQL and an S3 server. It is there for tests, measurements and
// drills, not for production.
//
// # A run directory
//
// All of it lives in one directory, and two directories know nothing of each
// other:
//
//	lock          one command at a time works on the directory
//	ports.json    a port for each server, chosen once, so that a server that was
//	              killed comes back where its clients look for it
//	bin/ lib/     what was installed: versitygw, the broker's jars
//	data/NAME/    what a server stores
//	log/NAME.log  what it prints
//	pid/NAME      its process
//	use/NAME      held by the test that has the server to itself
//	engines.yaml  the servers as sections of manna.yaml
//	env           the credentials that do not belong into a configuration
//
// # States of a server
//
// A server is down (never started, or ended in order), up (its process runs and
// it answers), silent (the process runs, no answer), paused (stopped by a signal)
// or dead (the process ended, and nobody asked it to).
//
// # Promises
//
// Up returns once each server has answered a question that only a working one
// can answer: the name server and the broker with the route of the broker's
// cluster, without which no topic can be made; memcached with its version;
// PostgreSQL with a row; S3 with the listing of its bucket. Data outlives Down and
// Kill. Servers outlive the process that started them. Nothing listens beyond
// the loopback interface, so the passwords in here protect nothing.
//
// What is not installed is installed: from Maven Central, by go install, and as
// root by apt-get. Where that may not be, the error has the command to run.
//
// Tests use Up and Engines, which exist under the build tag engines.
package engines
