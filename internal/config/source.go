package config

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// A key of these names holds something that is nobody's business.
var (
	secretKey = regexp.MustCompile(`(?i)(?:^|[\s{,\[?-])["']?[\w.-]*(?:secret|dsn|passw|token|authorization|api[-_]?key|cookie|credential)[\w.-]*["']?\s*:(?:\s|$)`)
	variables = regexp.MustCompile(`^(?:Bearer |Basic |\$\{[A-Za-z_][A-Za-z0-9_]*\})*[}\], \t]*$`)
	userinfo  = regexp.MustCompile(`://[^/\s"'@]*@`)
)

// maskSecrets gives the lines of a file as errors may show them. It works on the
// text alone, so that it also holds for a file that is no YAML.
func maskSecrets(lines []string) []string {
	shown := make([]string, len(lines))
	deeper := -1 // lines indented deeper than this go on with a secret
	for i, line := range lines {
		indent := utf8.RuneCountInString(line) - utf8.RuneCountInString(strings.TrimLeft(line, " \t"))
		blank := strings.TrimSpace(line) == ""
		if deeper >= 0 && (blank || indent > deeper) {
			if !blank {
				line = line[:len(line)-len(strings.TrimLeft(line, " \t"))] + redacted
			}
			shown[i] = line
			continue
		}
		deeper = -1
		shown[i], deeper = maskLine(line, indent)
	}
	return shown
}

// maskLine masks the values of secret keys in one line. A value that may go on
// in the next lines makes it return the indent above which they belong to it,
// otherwise -1.
func maskLine(line string, indent int) (string, int) {
	var done strings.Builder
	rest := userinfo.ReplaceAllString(line, "://"+redacted+"@")
	for {
		found := secretKey.FindStringIndex(rest)
		if found == nil || strings.HasPrefix(strings.TrimSpace(rest), "#") {
			done.WriteString(rest)
			return done.String(), -1
		}
		key, after := rest[:found[1]], rest[found[1]:]
		// In a flow ({…}) a value may go on at any indent below the line's own.
		deeper := indent
		if !strings.ContainsAny(done.String()+key, "{[") {
			deeper = len(key) - len(strings.TrimLeft(key, " \t-"))
		}
		value := strings.TrimLeft(after, " \t")
		done.WriteString(key + after[:len(after)-len(value)])
		if value == "" || value[0] == '#' {
			done.WriteString(value)
			return done.String(), deeper
		}
		if value[0] == '"' || value[0] == '\'' {
			end := closingQuote(value)
			if end < 0 {
				done.WriteString(redacted)
				return done.String(), deeper
			}
			quoted := value[:end+1]
			if variables.MatchString(quoted[1 : len(quoted)-1]) {
				done.WriteString(quoted)
			} else {
				done.WriteString(redacted)
				// A doubled quote ends nothing: what follows is secret too.
				if tail := strings.TrimLeft(value[end+1:], " \t"); tail != "" && !strings.ContainsAny(tail[:1], ",}]#") {
					return done.String(), deeper
				}
			}
			rest = value[end+1:]
			continue
		}
		if variables.MatchString(value) {
			done.WriteString(value)
		} else {
			done.WriteString(redacted)
		}
		return done.String(), deeper
	}
}

// closingQuote finds the quote that ends the one s begins with; -1 where it is
// not in this line.
func closingQuote(s string) int {
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return i
		case s[i] == '\\' && s[0] == '"':
			i++
		}
	}
	return -1
}
