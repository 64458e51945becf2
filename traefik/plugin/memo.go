package policy

import (
	"bytes"
	"crypto/sha256"
	"net/http"
)

// The plugin is interpreted: a function's call costs in proportion to the expressions it holds, whether they run or not, a
// method's call twice a function's, and a decision some hundred microseconds. So what every call runs through are few
// functions, not methods, of few expressions each, and what is rare stands in functions of its own. Callers repeat
// themselves: the same headers under the same tables give the same decision, and that is what is remembered, under a
// digest of everything a decision can depend on. The writing and hashing is compiled code. A table that changes begins with
// an empty memory, so nothing is remembered across a revocation.

// memoLimit bounds the memory; a full one is emptied.
const memoLimit = 4096

// unread are headers no decision looks at and callers vary from call to call. All others are part of the digest.
var unread = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Content-Length": true, "Content-Type": true,
	"User-Agent": true, "Traceparent": true, "Tracestate": true, "Baggage": true, "X-Request-Id": true,
	"X-Forwarded-For": true, "X-Forwarded-Host": true, "X-Forwarded-Port": true, "X-Forwarded-Proto": true,
	"X-Forwarded-Server": true, "X-Real-Ip": true,
}

// digest identifies a call by all that decide may look at: role, method, path, Host and the headers. None of the
// parts can hold a line end (the path is escaped), so no two calls write the same text.
func digest(role string, r *http.Request) [sha256.Size]byte {
	if role == roleInternal {
		role += " " + callerOfPeer(r) // a name of a path: no line end, no blank
	}
	text := bytes.NewBufferString(role + "\n" + r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.Host + "\n")
	_ = r.Header.WriteSubset(text, unread)
	return sha256.Sum256(text.Bytes())
}

func newMemo() map[[sha256.Size]byte]*decision {
	return map[[sha256.Size]byte]*decision{}
}

// remember keeps a decision for as long as its tables are in force.
func (s *store) remember(t *tables, id [sha256.Size]byte, d *decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(t.memo) >= memoLimit {
		t.memo = newMemo()
	}
	t.memo[id] = d
}
