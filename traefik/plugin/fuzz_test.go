package policy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// fuzzed are gates of every role over the world of the decisions, and the call that one of them sent on.
type fuzzed struct {
	gates []*gate
	went  []*http.Request
}

func newFuzzed(f *testing.F, world *tables) *fuzzed {
	made := &fuzzed{}
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { made.went = append(made.went, r) })
	for _, role := range []string{rolePublic, roleInternal, roleForeign} {
		config := CreateConfig()
		config.Role, config.MaxBody, config.Resource = role, 1<<16, "https://mcp.example"
		s := newStore(f.TempDir())
		s.tables.services, s.tables.clients, s.tables.secrets = world.services, world.clients, world.secrets
		made.gates = append(made.gates, &gate{next: next, settings: newSettings(config), store: s})
	}
	return made
}

// asSent writes a decision's call as it stands on the wire.
func asSent(row *decisionRow) []byte {
	text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n", row.Method, row.Path)
	for _, pair := range row.Headers {
		text += pair[0] + ": " + pair[1] + "\r\n"
	}
	return []byte(text + "\r\n{}")
}

// FuzzARequest sends whatever the net brings to a gate: it refuses it, or sends it on with its own word alone.
func FuzzARequest(f *testing.F) {
	file, world := readDecisions(f)
	made := newFuzzed(f, world)
	for i := range file.Rows {
		for role := range made.gates {
			f.Add(asSent(&file.Rows[i]), byte(role))
		}
	}
	f.Add([]byte("POST /mcp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n0\r\n\r\n"), byte(0))
	f.Fuzz(func(t *testing.T, raw []byte, role byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
		if err != nil {
			return
		}
		made.went = nil
		g := made.gates[int(role)%len(made.gates)]
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		made.check(t, g.settings.role, w)
	})
}

func (f *fuzzed) check(t *testing.T, role string, w *httptest.ResponseRecorder) {
	t.Helper()
	if len(f.went) == 0 {
		if w.Code < 200 || w.Code > 503 || w.Code == 500 {
			t.Fatalf("%s: refused with %d %s", role, w.Code, w.Body)
		}
		return
	}
	if len(f.went) > 1 {
		t.Fatalf("%s: one call went on %d times", role, len(f.went))
	}
	if _, err := io.ReadAll(f.went[0].Body); err != nil {
		t.Fatalf("%s: a body went on that cannot be read: %v", role, err)
	}
	h := f.went[0].Header
	for name, values := range h {
		folded := strings.Map(foldRune, strings.ToLower(name))
		if strings.HasPrefix(folded, "x-tekup-") && (http.CanonicalHeaderKey(name) != name || len(values) != 1) {
			t.Fatalf("%s: %q went on as %q", role, name, values)
		}
		if folded == "authorization" || folded == "connection" {
			t.Fatalf("%s: %s went on", role, name)
		}
	}
	if f.went[0].URL.Path != "/mcp" || h.Get(headerClient) == "" || h.Get(headerService) == "" || h.Get(headerRoute) == "" {
		t.Fatalf("%s: went on as %s %v", role, f.went[0].URL, h)
	}
}

// FuzzTables reads whatever lies in the gate's folder: it is taken, or refused with a reason, and calls go on to be decided.
func FuzzTables(f *testing.F) {
	for _, text := range []string{`{}`, `{"serial":1,"services":{"a":{"stable":"a_1","lanes":[{"target":"a_1","weight_pct":100}]}}}`, `[`, `{"services":{"a":null}}`,
		`{"clients":{"dev":{"allow":["*"]}},"keys":{"dev-1":{"client":"dev","hash":"00"}}}`, `{"mac":["00"],"services":{"a":["zz"]}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		services, _, _ := decodeServices(raw, nil)
		clients, _, _ := decodeClients(raw, nil)
		secrets, _, _ := decodeSecrets(raw)
		world := &tables{services: services, clients: clients, secrets: secrets}
		for _, role := range []string{rolePublic, roleInternal, roleForeign} {
			h := http.Header{headerMethod: {"tools/call"}, headerName: {"a_b"}, headerVersion: {"2026-07-28"}, "Authorization": {"Bearer tk_dev-1_x"}}
			d, no := decide(newSettings(&Config{Role: role}), &request{method: "POST", path: "/mcp", header: h}, world, testTime)
			if (d == nil) == (no == nil) {
				t.Fatalf("%s: neither one nor the other: %v %v", role, d, no)
			}
		}
	})
}
