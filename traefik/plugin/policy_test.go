package policy

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// closedAtItsEnd is a request body as Go's server has it once the answer has begun: whole, and not to be read again.
type closedAtItsEnd struct {
	*strings.Reader
}

func (b closedAtItsEnd) Read(p []byte) (int, error) {
	if b.Len() == 0 {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

func (b closedAtItsEnd) Close() error { return nil }

func TestABodyEndsWithoutAskingTheServerThatMayHaveClosedIt(t *testing.T) {
	s := newStore(t.TempDir())
	d := &decision{client: "dev", label: "dev", service: "alpha", targets: []string{"alpha_1-0-0"}}
	d.prepare(s.counts)
	d.until = math.MaxInt64
	r := httptest.NewRequest(http.MethodPost, "/mcp", closedAtItsEnd{strings.NewReader("{}")})
	r.ContentLength = 2
	s.tables.memo[digest(rolePublic, r)] = d
	read := ""
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading to the end: %v", err)
		}
		read = string(raw)
	})
	g := &gate{next: next, settings: newSettings(&Config{Role: rolePublic}), store: s}
	g.ServeHTTP(httptest.NewRecorder(), r)
	if read != "{}" {
		t.Errorf("the next handler read %q", read)
	}
}

func TestWhatNobodyAnsweredIsSaidByWhyNobodyDid(t *testing.T) {
	for path, status := range map[string]int{"/mcp": 503, "/": 503, "/502": 502, "/504": 504, "/oauth": 503, "/426": 426, "/429": 429} {
		w := httptest.NewRecorder()
		(&answerer{&gate{settings: newSettings(&Config{Role: roleLast})}}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != status || !strings.Contains(w.Body.String(), fmt.Sprintf(`"code":%d`, status)) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if told := strings.Contains(w.Body.String(), "may have run"); told != (status == 502 || status == 504) {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}

func TestABearerThatNobodyJudgedIsToldFromACallThatBroke(t *testing.T) {
	for target, wanted := range map[string]string{"": "sent the call to nobody", "a_1-0-0": "may have run"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/500", nil)
		if target != "" {
			r.Header.Set(headerRoute, target)
		}
		(&answerer{&gate{settings: newSettings(&Config{Role: roleLast})}}).ServeHTTP(w, r)
		if w.Code != 500 || !strings.Contains(w.Body.String(), wanted) || (w.Header().Get("Retry-After") == "1") != (target == "") {
			t.Errorf("%q: %d %s %v", target, w.Code, w.Body, w.Header())
		}
	}
}
