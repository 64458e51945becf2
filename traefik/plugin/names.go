package policy

import "strings"

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
	hexes  = digits + "abcdef"
	alnum  = digits + lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// only tells whether text has no character outside set. It runs compiled, a loop here would be interpreted.
func only(text, set string) bool {
	return strings.Trim(text, set) == ""
}

// isService: [a-z][a-z0-9-]{0,31}.
func isService(name string) bool {
	return name != "" && len(name) <= 32 && only(name[:1], lower) && only(name, lower+digits+"-")
}

// isID, of clients and keys: [a-z0-9][a-z0-9-]{0,62}.
func isID(name string) bool {
	return name != "" && len(name) <= 63 && only(name[:1], lower+digits) && only(name, lower+digits+"-")
}

// isInstance: 6 hex digits.
func isInstance(name string) bool {
	return len(name) == 6 && only(name, hexes)
}

// isTarget: <service>_<version, dots as dashes>, or that with _<instance>.
func isTarget(target, service string) bool {
	if !strings.HasPrefix(target, service+"_") {
		return false
	}
	parts := strings.Split(target[len(service)+1:], "_")
	if len(parts) > 2 || parts[0] == "" || len(parts[0]) > 32 || !only(parts[0], alnum+"-") {
		return false
	}
	return len(parts) == 1 || isInstance(parts[1])
}

// pattern is a permission, split at its stars; matching is linear in the name, whoever wrote either.
type pattern []string

func newPattern(glob string) pattern {
	return strings.Split(glob, "*")
}

func (p pattern) matches(name string) bool {
	last := len(p) - 1
	if last == 0 {
		return name == p[0]
	}
	if !strings.HasPrefix(name, p[0]) {
		return false
	}
	name = name[len(p[0]):]
	for _, part := range p[1:last] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return strings.HasSuffix(name, p[last])
}
