package node

import (
	"fmt"
	"slices"
	"strings"
)

// Role is a part of the work that a node does.
type Role string

// The roles.
const (
	RoleFront     Role = "front"     // accepts claims
	RoleLanes     Role = "lanes"     // delivers orders
	RoleReconcile Role = "reconcile" // compares, on schedule
)

// AllRoles are those of a node that is asked for none in particular.
func AllRoles() []Role { return []Role{RoleFront, RoleLanes, RoleReconcile} }

// ParseRoles reads "front,lanes".
func ParseRoles(s string) (roles []Role, err error) {
	for name := range strings.SplitSeq(s, ",") {
		r := Role(strings.TrimSpace(name))
		if !slices.Contains(AllRoles(), r) {
			return nil, fmt.Errorf("%q is no role: want some of %s", r, nameList(names(AllRoles())))
		}
		if !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	return roles, nil
}

func names(roles []Role) (list []string) {
	for _, r := range roles {
		list = append(list, string(r))
	}
	return list
}
