package policy

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

// bodyGate counts and keeps what goes on.
func bodyGate(t *testing.T, most int64) (*gate, *[]string, *decision) {
	t.Helper()
	arrived := &[]string{}
	next := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil || int64(len(raw)) != r.ContentLength || r.TransferEncoding != nil || r.Trailer != nil {
			t.Errorf("%d bytes of %d, %v, %v, %v", len(raw), r.ContentLength, err, r.TransferEncoding, r.Trailer)
		}
		*arrived = append(*arrived, string(raw))
	})
	s := newStore(t.TempDir())
	d := &decision{client: "dev", label: "dev", service: "alpha", targets: []string{"alpha_1-0-0"}}
	d.prepare(s.counts)
	return &gate{next: next, settings: newSettings(&Config{Role: rolePublic, MaxBody: most}), store: s}, arrived, d
}

func post(g *gate, d *decision, body io.Reader, length int64) int {
	r := httptest.NewRequest(http.MethodPost, "/mcp", body)
	r.ContentLength = length
	if length < 0 {
		r.TransferEncoding = []string{"chunked"}
		r.Trailer = http.Header{"X-Tekup-Client": nil}
	}
	g.store.tables.memo[digest(rolePublic, r)] = d
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w.Code
}

func TestACallGoesOnOnceItsBodyIsHere(t *testing.T) {
	const most = 100_000
	for _, row := range []struct {
		what   string
		size   int // that come
		length int64
		ends   error
		status int
	}{
		{"none", 0, 0, nil, 200},
		{"small", 10, 10, nil, 200},
		{"the largest small", smallBody, smallBody, nil, 200},
		{"large", smallBody + 1, smallBody + 1, nil, 200},
		{"the largest", most, most, nil, 200},
		{"in chunks", 10, -1, nil, 200},
		{"many chunks", most, -1, nil, 200},
		{"too long", most + 1, most + 1, nil, 413},
		{"too long in chunks", most + 1, -1, nil, 413},
		{"small and broken off", 5, 10, nil, 400},
		{"large and broken off", 70_000, 80_000, nil, 400},
		{"reset", 5, 10, errors.New("reset"), 400},
		{"large and reset", 70_000, 80_000, errors.New("reset"), 400},
		{"chunks that are none", 5, -1, errors.New("invalid byte in chunk length"), 400},
		{"slow", 5, 10, os.ErrDeadlineExceeded, 408},
		{"slow chunks", 5, -1, os.ErrDeadlineExceeded, 408},
	} {
		g, arrived, d := bodyGate(t, most)
		body := io.Reader(strings.NewReader(strings.Repeat("x", row.size)))
		if row.ends != nil {
			body = io.MultiReader(body, iotest.ErrReader(row.ends))
		}
		if status := post(g, d, body, row.length); status != row.status {
			t.Errorf("%s: %d", row.what, status)
		}
		if went := len(*arrived) == 1 && len((*arrived)[0]) == row.size; went != (row.status == 200) {
			t.Errorf("%s: %d calls went on", row.what, len(*arrived))
		}
		if held := atomic.LoadInt64(g.store.held); held != 0 {
			t.Errorf("%s: %d bytes are held for nobody", row.what, held)
		}
	}
}

func TestLargeBodiesTogetherTakeNoMoreThanThereIs(t *testing.T) {
	g, arrived, d := bodyGate(t, 0)
	*g.store.held = heldLimit - 100_000
	if status := post(g, d, strings.NewReader(strings.Repeat("x", 100_001)), 100_001); status != 503 {
		t.Errorf("one too many: %d", status)
	}
	if status := post(g, d, strings.NewReader("{}"), 2); status != 200 {
		t.Errorf("a small one has nothing to do with it: %d", status)
	}
	if status := post(g, d, strings.NewReader(strings.Repeat("x", 100_000)), 100_000); status != 200 || len(*arrived) != 2 {
		t.Errorf("the last that has room: %d", status)
	}
}
