package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func ordinary() *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
	r.Header.Set("Authorization", "Bearer x")
	r.Header.Set(headerVersion, modernVersion)
	r.Header.Set(headerMethod, "tools/call")
	r.Header.Set(headerName, "alpha_read")
	return r
}

func TestWhateverADecisionReadsIsPartOfItsDigest(t *testing.T) {
	base := digest(rolePublic, ordinary())
	if digest(rolePublic, ordinary()) != base {
		t.Fatal("two like calls differ")
	}
	if digest(roleInternal, ordinary()) == base {
		t.Error("the role does not count")
	}
	changes := map[string]func(r *http.Request){
		"method":  func(r *http.Request) { r.Method = http.MethodGet },
		"path":    func(r *http.Request) { r.URL.Path = "/alpha/mcp" },
		"escape":  func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/mcp", "/%6dcp" },
		"newline": func(r *http.Request) { r.URL.Path = "/mcp\n" + r.Host },
		"host":    func(r *http.Request) { r.Host = "elsewhere" },
	}
	for _, name := range []string{"Authorization", headerVersion, headerMethod, headerName, headerHandle, "Mcp-Param-X", "Origin", "Connection", "X-Tekup-Any", "X_tekup_any"} {
		changes["another "+name] = func(r *http.Request) { r.Header[name] = []string{"other"} }
		changes["one more "+name] = func(r *http.Request) { r.Header[name] = append(r.Header[name], "other") }
		if r := ordinary(); len(r.Header[name]) > 0 {
			changes["no "+name] = func(r *http.Request) { delete(r.Header, name) }
		}
	}
	for what, change := range changes {
		r := ordinary()
		change(r)
		if digest(rolePublic, r) == base {
			t.Errorf("%s does not count", what)
		}
	}
}

func TestWhatCallersVaryDoesNotCount(t *testing.T) {
	r := ordinary()
	r.Header.Set("Traceparent", "00-1-2-01")
	r.Header.Set("Content-Length", "17")
	if digest(rolePublic, r) != digest(rolePublic, ordinary()) {
		t.Error("a trace makes another call of it")
	}
}

func TestAMemoryEndsWithItsTables(t *testing.T) {
	s := furnished(t)
	s.remember(s.current(), sha256.Sum256(nil), &decision{})
	put(t, s, "clients.json", fmt.Sprintf(goodClients, 2, someHex))
	if len(s.current().memo) != 0 {
		t.Error("a decision outlived its tables")
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	s := furnished(t)
	for i := 0; i < memoLimit+10; i++ {
		s.remember(s.current(), sha256.Sum256([]byte(fmt.Sprint(i))), &decision{})
	}
	if len(s.current().memo) > memoLimit {
		t.Errorf("%d remembered", len(s.current().memo))
	}
}

const bearerToken = "tk_k1_secret"

// openTo returns a gate whose one key ends then (0: never), and its backend.
func openTo(t *testing.T, expires int64) (*gate, *received) {
	t.Helper()
	s := furnished(t)
	hash := sha256.Sum256([]byte(bearerToken))
	clients := fmt.Sprintf(goodClients, 2, hex.EncodeToString(hash[:]))
	put(t, s, "clients.json", strings.Replace(clients, `"expires":0`, fmt.Sprintf(`"expires":%d`, expires), 1))
	config := CreateConfig()
	config.Role = rolePublic
	got := &received{}
	return &gate{next: got, settings: newSettings(config), store: s}, got
}

func serve(g *gate) (*http.Request, int) {
	r := ordinary()
	r.Header.Set("Authorization", "Bearer "+bearerToken)
	r.Header.Set(headerClient, "somebody-else")
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return r, w.Code
}

func TestADecisionIsRememberedNoLongerThanItsKeyLives(t *testing.T) {
	g, got := openTo(t, time.Now().Unix()+3600)
	if serve(g); got.calls != 1 || len(g.store.current().memo) != 1 {
		t.Fatalf("%d calls went on, %d remembered", got.calls, len(g.store.current().memo))
	}
	for _, d := range g.store.current().memo {
		d.key.Expires = time.Now().Unix()
		d.until = d.key.Expires
	}
	if _, status := serve(g); status != http.StatusUnauthorized || got.calls != 1 {
		t.Errorf("%d after the end of the key, %d calls went on", status, got.calls)
	}
}

// The access log keeps these headers.
func TestARefusedCallerBearsNoNameOfItsOwnChoice(t *testing.T) {
	g, got := openTo(t, 1)
	r, status := serve(g)
	if status != http.StatusUnauthorized || got.calls != 0 || r.Header.Get(headerClient) != "dev" {
		t.Errorf("%d, %d calls went on as %q", status, got.calls, r.Header.Get(headerClient))
	}
}
