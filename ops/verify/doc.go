// Package verify holds the tests that read ops/compose and ops/kubernetes as docker
// compose and Kubernetes would: through compose's own parser, through Kustomize, and
// into Kubernetes' own types, which refuse fields that they do not have. It is a module
// by itself so that Manna does not depend on any of them:
//
//	go -C ops/verify test ./...
package verify
