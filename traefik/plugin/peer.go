package policy

import (
	"net/http"
	"strings"
)

// Where the internal entrypoint asks for a client certificate, a caller is who its certificate says: Traefik has
// checked the chain against the roots of Consul's CA, and that CA signs a name only for who may have it.

// identities are the certificates' names of those who may call, by what they are called here.
var identities = map[string]string{"mcp-" + hubService: hubService, "tekup-" + controlPlane: controlPlane}

// callerOfPeer returns the name in the client's certificate, spiffe://<domain>/ns/default/dc/<dc>/svc/<name>; "" for a
// connection without one that was checked. PeerCertificates would hold one that nobody has checked.
func callerOfPeer(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0 {
		return ""
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" {
		return ""
	}
	parts := strings.Split(leaf.URIs[0].EscapedPath(), "/")
	if len(parts) != 7 || parts[1] != "ns" || parts[2] != "default" || parts[3] != "dc" || parts[5] != "svc" {
		return ""
	}
	return parts[6]
}

// callerOn returns who calls the internal entrypoint: by certificate alone where certificates are asked for.
func callerOn(p *settings, r *request, t *tables) (string, *refusal) {
	if !p.peers {
		return provenCaller(r.header, p.callers, t.secrets)
	}
	name := identities[r.peer]
	if name != "" && contains(p.callers, name) {
		return name, nil
	}
	return "", refuse(http.StatusForbidden, "unproven", "this entrypoint answers %s only, by their certificates, and not %q; clients use the public one",
		strings.Join(p.callers, " and "), clip(r.peer))
}
