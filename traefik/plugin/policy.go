// Package policy is the gate's decision: which client calls, may it, and which target answers.
//
// It runs inside Traefik's interpreter (yaegi 0.16): the standard library only, no generics, and no shared statement
// where a plain one will do. Assigning several fields at once, or returning append(…) among other values, compiles
// and does something else there. tests/gate runs the rows of tests/vectors/decisions.json interpreted. Invariants:
// it talks to nobody, looks into the body of no request that it does not refuse (idOf), holds no connection, and knows the
// world from three files (tables.go) alone. Whatever is unclear is refused; nothing is forwarded by default.
//
// One middleware plays one of five roles, told by its own configuration and by nothing a caller sends: public and
// internal (the two entrypoints of calls), foreign (the public one, for bearers that forwardAuth has made a grant of),
// private (state and metrics), last (no router took the call).
package policy

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	rolePublic   = "public"
	roleInternal = "internal"
	rolePrivate  = "private"
	roleLast     = "last"
	roleForeign  = "foreign"
)

// bodyLimit is twice what services read: a client that sends everything before it reads gets their refusal so.
const bodyLimit = 8 << 20

// Config is what dynamic/gate.yml says of one middleware. Traefik's API shows it: no secrets in it.
type Config struct {
	// Role is one of public, foreign, internal, private, last.
	Role string `json:"role,omitempty"`
	// Tables is the absolute folder of services.json, clients.json and secrets.json.
	Tables string `json:"tables,omitempty"`
	// Hosts are the Host values the public entrypoint answers to; empty: any.
	Hosts []string `json:"hosts,omitempty"`
	// Origins are the Origin values it answers to; empty: loopback only.
	Origins []string `json:"origins,omitempty"`
	// Callers may use the internal entrypoint, once they have proven their name.
	Callers []string `json:"callers,omitempty"`
	// Resource is the public base URL (https://host) under which bearers of authorization servers are taken; "": none are.
	Resource string `json:"resource,omitempty"`
	// Scope names the scope of a service, `{service}` standing for it.
	Scope string `json:"scope,omitempty"`
	// MaxBody is the most bytes a call's body may have.
	MaxBody int64 `json:"maxBody,omitempty"`
	// MaxAge is for how many seconds the tables count without being confirmed by the agent; 0: for ever.
	MaxAge int64 `json:"maxAge,omitempty"`
	// Peers tells that callers of the internal entrypoint prove their name by a certificate, and by nothing else.
	Peers bool `json:"peers,omitempty"`
}

// CreateConfig returns the defaults.
func CreateConfig() *Config {
	return &Config{Callers: []string{hubService, controlPlane}, Scope: "mcp:{service}", MaxBody: bodyLimit}
}

type gate struct {
	next     http.Handler
	settings *settings
	store    *store
}

// New makes one middleware. Traefik calls it again for each on every reload, in one interpreter: what must exist
// once (tables, counters, the watching goroutine) lives in the store of its folder.
func New(_ context.Context, next http.Handler, config *Config, name string) (http.Handler, error) {
	switch config.Role {
	case rolePublic, roleForeign, roleInternal, rolePrivate, roleLast:
	default:
		return nil, fmt.Errorf("middleware %s: role %q is none of public, foreign, internal, private, last", name, config.Role)
	}
	if config.Tables == "" && config.Role != roleLast {
		return nil, fmt.Errorf("middleware %s: tables is missing: give the absolute folder of services.json", name)
	}
	g := &gate{next: next, settings: newSettings(config)}
	if config.Role != roleLast {
		g.store = openStore(config.Tables)
	}
	if g.settings.role == rolePrivate || g.settings.role == roleLast {
		return &answerer{g}, nil
	}
	if g.settings.maxAge > 0 {
		return &dated{g}, nil
	}
	return g, nil
}

// ServeHTTP, admit, serveCounted, serveSmall and forward are what every good call runs through; memo.go says why they are
// written as they are.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := digest(g.settings.role, r)
	s := g.store
	s.mu.RLock()
	d := s.tables.memo[id]
	s.mu.RUnlock()
	now := time.Now().UnixNano()
	if d == nil || now >= d.until {
		if d = g.decideAnew(w, r, id, now); d == nil {
			return
		}
	}
	if d.budgets != nil {
		if no := admit(d, w.Header(), now); no != nil {
			g.refuse(w, r, no)
			return
		}
	}
	if d.counted {
		serveCounted(g, w, r, d, now, 0)
		return
	}
	serveSmall(g, w, r, d, now)
}

// forward sends a call on, whose body is here.
func forward(g *gate, w http.ResponseWriter, r *http.Request, d *decision, now int64) {
	to := d.only
	if to == nil {
		to = draw(d.among, d.routes)
	}
	if to.plain != nil && !copyable(r) {
		to = to.plain
	}
	atomic.AddInt64(to.count, 1)
	atomic.AddInt64(d.used, 1)
	h := r.Header
	for _, name := range d.strip {
		delete(h, name)
	}
	h[headerGate] = d.proofs
	h[headerClient] = d.clients
	h[headerService] = d.services
	h[headerRoute] = to.header
	if to.plain != nil {
		h[headerCall] = g.store.newCall()
	}
	if d.key != nil {
		h[headerGrant] = d.grants
		atomic.StoreInt64(d.key.used, now)
	}
	if d.scope != "" {
		h[headerScope] = d.scopes
	}
	if r.RequestURI != "/mcp" || r.URL.Path != "/mcp" {
		r.URL = &url.URL{Path: "/mcp"}
		r.RequestURI = "/mcp"
	}
	g.next.ServeHTTP(w, r)
}

// dated are gates whose tables count only for so long without the agent's word.
type dated struct{ gate *gate }

func (g *dated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	age := time.Now().Unix() - atomic.LoadInt64(g.gate.store.confirmed)
	if age > g.gate.settings.maxAge {
		g.gate.refuse(w, r, refuseStale(age))
		return
	}
	g.gate.ServeHTTP(w, r)
}

// answerer has the roles that forward nothing.
type answerer struct{ gate *gate }

func (a *answerer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a.gate.settings.role == rolePrivate {
		a.gate.servePrivate(w, r)
		return
	}
	if told := r.Header.Get(headerRefusal); told != "" && r.URL.Path == "/429" {
		repeat(w, told)
		return
	}
	refuseLast(r.URL.Path, r.Header.Get(headerRoute)).write(w)
}

// decideAnew returns nil if the call is answered here.
func (g *gate) decideAnew(w http.ResponseWriter, r *http.Request, id [sha256.Size]byte, now int64) *decision {
	t := g.store.current()
	view := &request{method: r.Method, path: r.URL.EscapedPath(), host: r.Host, header: r.Header}
	if g.settings.role == roleInternal {
		view.peer = callerOfPeer(r)
	}
	d, no := decide(g.settings, view, t, now/1e9)
	if no != nil {
		g.refuse(w, r, no)
		return nil
	}
	if d.listing {
		writeJSON(w, http.StatusOK, listServices(t))
		return nil
	}
	d.prepare(g.store.counts)
	g.store.allot(d, t.gatesOf())
	g.store.remember(t, id, d)
	return d
}

func leaveName(h http.Header, header, name string) {
	delete(h, header)
	if name != "" {
		h[header] = []string{name}
	}
}

// refuse answers in a service's place.
func (g *gate) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	// The access log keeps these three: a refused caller must not be able to write itself another name into it, and
	// stands there under the name its refusal is counted by.
	leaveName(r.Header, headerClient, no.client)
	leaveName(r.Header, headerService, no.service)
	delete(r.Header, headerRoute)
	g.store.counts.refused(no)
	no.id = idOf(r)
	if no.status == http.StatusTooManyRequests {
		no.leave(r.Header, w.Header())
	}
	no.write(w)
}
