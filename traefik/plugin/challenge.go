package policy

import "strings"

// What a refusal tells clients that can get themselves a bearer: where the resource is described, and which scope is
// missing (RFC 9728, RFC 6750; MCP 2026-07-28, basic/authorization). Without a public address there is no such thing.

// challenge is for a call whose caller is not known.
func (p *settings) challenge(scope string, c *call) string {
	if p.resource == "" {
		return ""
	}
	said := `Bearer resource_metadata="` + p.metadata(scope) + `"`
	if wanted := p.scopeOf(scope, c); wanted != "" {
		said += `, scope="` + wanted + `"`
	}
	return said
}

// stepUp is for a known caller whose scopes do not cover the call.
func (p *settings) stepUp(scope string, c *call) string {
	if p.resource == "" {
		return ""
	}
	return `Bearer error="insufficient_scope", scope="` + p.scopeOf(scope, c) + `", resource_metadata="` + p.metadata(scope) +
		`", error_description="this call needs a further scope"`
}

// metadata is where the resource of a path is described; the hub's is /mcp.
func (p *settings) metadata(scope string) string {
	path := "/mcp"
	if scope != "" {
		path = "/" + scope + "/mcp"
	}
	return p.resource + "/.well-known/oauth-protected-resource" + path
}

// scopeOf names the scope of a call's service; "" where the call names none. What a caller sent is said back only if it
// is a service's name.
func (p *settings) scopeOf(scope string, c *call) string {
	if scope == "" {
		scope = serviceOf(c.name)
	}
	if !isService(scope) {
		return ""
	}
	return strings.Replace(p.scope, "{service}", scope, 1)
}
