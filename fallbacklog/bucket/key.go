package bucket

import (
	"fmt"
	"strings"
)

const (
	maxKey  = 1000
	maxName = 200
)

// CheckKey tells whether a key is one that every engine can keep.
func CheckKey(key string) error {
	if len(key) > maxKey {
		return fmt.Errorf("%.40q… is no key: it has more than %d bytes", key, maxKey)
	}
	for name := range strings.SplitSeq(key, "/") {
		if why := badName(name); why != "" {
			return fmt.Errorf("%q is no key: %s", key, why)
		}
	}
	return nil
}

// CheckFolder tells whether List can be asked for a folder.
func CheckFolder(folder string) error {
	if folder == "" {
		return nil
	}
	key, ok := strings.CutSuffix(folder, "/")
	if !ok {
		return fmt.Errorf("%q is no folder: it does not end with a slash", folder)
	}
	return CheckKey(key)
}

// Listed tells whether a name is one of a key. Engines leave others out of lists:
// they are not ours.
func Listed(name string) bool { return badName(name) == "" }

func badName(name string) string {
	switch {
	case name == "":
		return "a name in it is empty"
	case len(name) > maxName:
		return fmt.Sprintf("a name in it has more than %d bytes", maxName)
	case name[0] == '.':
		return "a name in it begins with a dot"
	case strings.HasSuffix(name, ".tmp"):
		return "a name in it ends with .tmp"
	}
	for _, c := range []byte(name) {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || strings.IndexByte("-_.~+=@,:", c) >= 0 {
			continue
		}
		return fmt.Sprintf("it has the character %q", c)
	}
	return ""
}
