package policy

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const ours = "spiffe://11111111-2222.consul/ns/default/dc/dc1/svc/"

func named(t *testing.T, uris ...string) *http.Request {
	leaf := &x509.Certificate{}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		leaf.URIs = append(leaf.URIs, u)
	}
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf}}}
	return &http.Request{TLS: state, Method: "POST", URL: &url.URL{Path: "/alpha/mcp"}, Header: http.Header{}}
}

func TestACallerIsWhomItsCheckedCertificateNames(t *testing.T) {
	if got := callerOfPeer(named(t, ours+"mcp-hub")); got != "mcp-hub" {
		t.Errorf("got %q", got)
	}
}

func TestWhatNamesNobodyIsNobody(t *testing.T) {
	unchecked := named(t, ours+"mcp-hub")
	unchecked.TLS = &tls.ConnectionState{PeerCertificates: unchecked.TLS.VerifiedChains[0]}
	nobodies := map[string]*http.Request{
		"plain":           {},
		"no certificate":  {TLS: &tls.ConnectionState{}},
		"empty chain":     {TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{}}}},
		"unchecked":       unchecked,
		"no name":         named(t),
		"two names":       named(t, ours+"mcp-hub", ours+"mcp-alpha"),
		"another scheme":  named(t, strings.Replace(ours, "spiffe", "https", 1)+"mcp-hub"),
		"an agent":        named(t, "spiffe://1.consul/agent/client/dc/dc1/id/mcp-hub"),
		"another space":   named(t, "spiffe://1.consul/ns/other/dc/dc1/svc/mcp-hub"),
		"a partition":     named(t, "spiffe://1.consul/ap/x/ns/default/dc/dc1/svc/mcp-hub"),
		"a longer path":   named(t, ours+"mcp-hub/svc/mcp-alpha"),
		"a disguised one": named(t, ours+"x%2Fsvc%2Fmcp-hub"),
	}
	for what, r := range nobodies {
		if got := callerOfPeer(r); identities[got] != "" {
			t.Errorf("%s: %q", what, got)
		}
	}
}

func TestWithCertificatesNothingElseProvesACaller(t *testing.T) {
	p := newSettings(&Config{Role: roleInternal, Callers: CreateConfig().Callers, Peers: true})
	for peer, want := range map[string]string{
		"mcp-hub": hubService, "tekup-control-plane": controlPlane, "": "", "mcp-alpha": "", "hub": "", "tekup-gate": "",
	} {
		h := http.Header{headerCaller: {hubService}, headerProof: {"00"}}
		got, no := callerOn(p, &request{peer: peer, header: h}, &tables{})
		if got != want || (no == nil) != (want != "") {
			t.Errorf("%q: %q, %v", peer, got, no)
		}
	}
}

func TestWhatIsRememberedOfOneCallerIsNotAnothers(t *testing.T) {
	hub, other := named(t, ours+"mcp-hub"), named(t, ours+"mcp-alpha")
	if digest(roleInternal, hub) == digest(roleInternal, other) {
		t.Error("two callers share a decision")
	}
	if digest(roleInternal, hub) != digest(roleInternal, named(t, ours+"mcp-hub")) {
		t.Error("one caller's decision is not found again")
	}
}
