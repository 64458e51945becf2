package policy

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

const (
	modernVersion = "2026-07-28"
	hubService    = "hub"
	controlPlane  = "control-plane"

	headerVersion = "Mcp-Protocol-Version"
	headerMethod  = "Mcp-Method"
	headerName    = "Mcp-Name"
	headerHandle  = "Mcp-Param-Handle"
)

var (
	legacyVersions    = []string{"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}
	supportedVersions = []string{"2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"}
	modernOnly        = []string{modernVersion}
)

// request is what a decision may look at: no body, no connection.
type request struct {
	method string
	path   string // escaped: what is not plain is not one of our paths
	host   string
	header http.Header
	peer   string // the client certificate's name, on the internal entrypoint
}

// call is what the believed headers say. In the legacy era nothing but the version is believed: older revisions
// never compare the mirrored headers with the body, so a caller may put there what it likes.
type call struct {
	legacy bool
	method string
	name   string // decoded; of tools/call, prompts/get, resources/read only
	handle string
	strip  []string // headers that must not travel on
}

// readCall checks the version header, then believes the rest or not.
func readCall(h http.Header, internal bool) (*call, *refusal) {
	versions := h[headerVersion]
	if len(versions) != 1 || versions[0] != modernVersion {
		return readLegacy(h, versions, internal)
	}
	c := &call{}
	if repeated := c.scan(h); repeated != "" {
		return nil, refuseHeader("%s was sent more than once; send it once", clip(repeated))
	}
	c.method = h.Get(headerMethod)
	if c.method == "" {
		return nil, refuseHeader("Mcp-Method is missing; every request of %s carries it", modernVersion)
	}
	if isNamed(c.method) {
		c.name = h.Get(headerName)
		if !decodeInto(&c.name) {
			return nil, refuseEncoding(headerName)
		}
		if c.name == "" {
			return nil, refuseHeader("Mcp-Name is missing; %s carries it", c.method)
		}
	}
	c.handle = h.Get(headerHandle)
	if !decodeInto(&c.handle) {
		return nil, refuseEncoding(headerHandle)
	}
	return c, nil
}

func readLegacy(h http.Header, versions []string, internal bool) (*call, *refusal) {
	if len(versions) > 1 {
		return nil, refuseHeader("MCP-Protocol-Version was sent %d times; send it once", len(versions))
	}
	if internal {
		return nil, refuseVersion(strings.Join(versions, ""), modernOnly)
	}
	if len(versions) == 1 && !contains(legacyVersions, versions[0]) {
		return nil, refuseVersion(versions[0], supportedVersions)
	}
	c := &call{legacy: true}
	c.scan(h)
	return c, nil
}

// scan lists what must not travel on, and finds a repeated Mcp- header. A server that folds header names takes
// X_Tekup_Client or x.tekup-client for X-Tekup-Client: every spelling goes. So does Connection, by which a caller
// could ask the next hop to drop the headers that the gate sets.
func (c *call) scan(h http.Header) string {
	repeated := ""
	for name, values := range h {
		folded := strings.ToLower(name)
		switch {
		case folded == "authorization" || folded == "connection" || folded == "upgrade":
			c.strip = append(c.strip, name)
		case strings.HasPrefix(folded, "x") && len(folded) >= 7 && folded[2:7] == "tekup":
			c.strip = append(c.strip, name)
		case !strings.HasPrefix(folded, "mcp") || name == headerVersion:
		case c.legacy || isAlias(name):
			c.strip = append(c.strip, name)
		case len(values) > 1:
			repeated = name
		}
	}
	return repeated
}

// isAlias tells whether a server that folds names would take this header for one the gate believes.
func isAlias(name string) bool {
	folded := http.CanonicalHeaderKey(strings.Map(foldRune, name))
	if folded == name {
		return false
	}
	return folded == headerVersion || folded == headerMethod || folded == headerName || folded == headerHandle
}

func foldRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
}

// isNamed tells the methods that mirror a name (basic/transports/streamable-http, "Mcp-Name").
func isNamed(method string) bool {
	return method == "tools/call" || method == "resources/read" || method == "prompts/get"
}

// isStable tells the methods that are answered by the stable version alone: a client must not see a list change
// between two pages of it.
func isStable(method string) bool {
	return method == "server/discover" || strings.HasSuffix(method, "/list")
}

// decodeInto opens the sentinel =?base64?…?= exactly as servers do: what they would read differently is refused.
func decodeInto(value *string) bool {
	const begin, end = "=?base64?", "?="
	if len(*value) < len(begin)+len(end) || !strings.HasPrefix(*value, begin) || !strings.HasSuffix(*value, end) {
		return true
	}
	raw, err := base64.StdEncoding.Strict().DecodeString((*value)[len(begin) : len(*value)-len(end)])
	if err != nil || !utf8.Valid(raw) {
		return false
	}
	*value = string(raw)
	return true
}

// serviceOf takes the service from a tool's, prompt's or resource's name: what stands before its first _ or ://.
func serviceOf(name string) string {
	end := strings.Index(name, "_")
	if scheme := strings.Index(name, "://"); scheme >= 0 && (end < 0 || scheme < end) {
		end = scheme
	}
	if end < 0 {
		return ""
	}
	return name[:end]
}

// scopeOf reads /mcp (scope "") and /<service>/mcp.
func scopeOf(path string) (string, bool) {
	if path == "/mcp" {
		return "", true
	}
	if !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/mcp") {
		return "", false
	}
	name := path[1 : len(path)-len("/mcp")]
	return name, isService(name)
}

func hostAllowed(hosts []string, host string) bool {
	if len(hosts) == 0 {
		return true
	}
	parsed := url.URL{Host: strings.ToLower(host)}
	return contains(hosts, parsed.Host) || contains(hosts, parsed.Hostname())
}

// originAllowed: without a list, only pages served from this machine; a page of elsewhere that reaches a loopback
// port through the user's browser is DNS rebinding.
func originAllowed(origins []string, sent []string) bool {
	if len(sent) == 0 {
		return true
	}
	if len(sent) > 1 {
		return false
	}
	if len(origins) > 0 {
		return contains(origins, sent[0])
	}
	parsed, err := url.Parse(sent[0])
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return false
	}
	name := parsed.Hostname()
	return name == "localhost" || name == "127.0.0.1" || name == "::1"
}

func contains(list []string, value string) bool {
	for _, item := range list {
		if item == value {
			return true
		}
	}
	return false
}
