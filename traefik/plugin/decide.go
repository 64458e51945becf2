package policy

import (
	"net/http"
	"strings"
)

// settings are what a middleware's configuration says.
type settings struct {
	role    string
	calls   bool // the role forwards calls
	hosts   []string
	origins []string
	callers []string
	peers   bool
	// of the two roles of the public entrypoint
	resource string
	scope    string
	maxBody  int64
	maxAge   int64
}

func newSettings(config *Config) *settings {
	p := &settings{role: config.Role, hosts: config.Hosts, origins: config.Origins, callers: config.Callers}
	p.calls = p.role == rolePublic || p.role == roleForeign || p.role == roleInternal
	p.peers = config.Peers
	p.resource = strings.TrimRight(config.Resource, "/")
	p.scope = config.Scope
	p.maxBody = config.MaxBody
	if p.maxBody <= 0 {
		p.maxBody = bodyLimit
	}
	p.maxAge = config.MaxAge
	return p
}

// decision is what becomes of a call that is not refused. It holds for every call with the same headers under the
// same tables, so it is remembered (memo.go): nothing in it may depend on anything else.
type decision struct {
	listing bool   // answer GET /tekup/services, forward nothing
	client  string // who calls: a client, `<client>~<subject>` of one of its users, or `~<caller>`
	label   string // the same for metrics and messages, without the subject
	class   string // what proves who calls (metrics.go)
	era     string
	tool    string // of tools/call: its name
	key     *key   // nil for a caller's own lists and probes
	service string
	scope   string
	reason  string
	proof   string
	strip   []string
	cohort  string
	targets []string // one, or those of among
	among   *shares
	copied  bool // a target with copies may be taken as it is

	limits    []*limit // a call counts against these
	countable bool     // it ends by itself, so those under way can be counted

	// made by prepare
	proofs   []string // the headers to set, as values
	clients  []string
	services []string
	grants   []string
	scopes   []string
	routes   []*route
	only     *route // the one of routes
	used     *int64 // what its client used of the service
	until    int64  // when its key ends, in nanoseconds
	budgets  []*budget
	counted  bool // some budget counts calls under way:
	counting []*budget
	told     *told
}

// decide is the algorithm of docs/architecture.md, steps 0-6, but for the draw among lanes. It looks at nothing but
// its arguments and changes nothing.
func decide(p *settings, r *request, t *tables, now int64) (*decision, *refusal) {
	if p.role == roleInternal {
		return decideInternal(p, r, t, now)
	}
	return decidePublic(p, r, t, now)
}

func decidePublic(p *settings, r *request, t *tables, now int64) (*decision, *refusal) {
	if !hostAllowed(p.hosts, r.host) || !originAllowed(p.origins, r.header["Origin"]) {
		return nil, refusePage(p, r)
	}
	scope, no := readPath(r)
	if no != nil {
		return nil, no
	}
	c, no := readCall(r.header, false)
	if no != nil {
		return nil, no
	}
	if t.services == nil || t.clients == nil || t.secrets == nil {
		return nil, refuseNoTable(t).by("", c.era())
	}
	who, no := callerOf(p, r.header, t, now)
	if no != nil {
		no.challenge = p.challenge(scope, c)
		return nil, no.by("", c.era())
	}
	d := &decision{client: who.identity, label: who.key.Client, key: who.key, strip: c.strip, scope: scope, cohort: who.client.Cohort}
	d.class = p.class()
	d.note(c)
	d.limit(who.client, c, true)
	if scope != "" && t.services.services[scope] == nil {
		return nil, d.refused(refuseUnknown(scope))
	}
	if c.legacy || c.method == "subscriptions/listen" {
		d.service = hubService
		return d.resolve(c, t)
	}
	if no = d.chooseService(c, t); no != nil {
		return nil, d.refused(no)
	}
	// What the hub's own tools lead to comes back through the internal entrypoint, and needs its right there.
	if c.name != "" && serviceOf(c.name) != hubService && !who.mayCall(c.name) {
		no = refuseRight(d.label, c)
		if who.stepUp(c.name) {
			no.challenge = p.stepUp(scope, c)
		}
		return nil, d.refused(no)
	}
	return d.resolve(c, t)
}

// callerOf tells who calls: by a key, or by the bearer that forwardAuth has made a grant of.
func callerOf(p *settings, h http.Header, t *tables, now int64) (*caller, *refusal) {
	if p.role == roleForeign {
		if len(h["Authorization"]) > 1 {
			return nil, refuseKey("no_key", "Authorization was sent %d times; send it once", len(h["Authorization"]))
		}
		return callerByGrant(h[headerGrant], t, now)
	}
	return callerByKey(h, t.clients, now)
}

// limit finds what a call counts against. Discovery is free: refused, clients take the server for an older one.
func (d *decision) limit(of *client, c *call, edge bool) {
	if c.method == "server/discover" {
		return
	}
	d.countable = c.method != "subscriptions/listen"
	for _, l := range of.Limits {
		if l.covers(c, edge) {
			d.limits = append(d.limits, l)
		}
	}
}

// decideInternal is step 0: the hub and the control plane, for a client by its grant or for themselves.
func decideInternal(p *settings, r *request, t *tables, now int64) (*decision, *refusal) {
	if t.services == nil || t.clients == nil || t.secrets == nil {
		return nil, refuseNoTable(t)
	}
	caller, no := callerOn(p, r, t)
	if no != nil {
		return nil, no
	}
	if r.path == servicesPath && r.method == http.MethodGet {
		return &decision{listing: true}, nil
	}
	scope, no := readPath(r)
	if no != nil {
		return nil, no.by(caller, "")
	}
	if scope == "" {
		return nil, refuse(http.StatusNotFound, "path", "this entrypoint leads to services only; use /<service>/mcp").by(caller, "")
	}
	c, no := readCall(r.header, true)
	if no != nil {
		return nil, no.by(caller, "")
	}
	d := &decision{client: "~" + caller, label: "~" + caller, service: scope, strip: c.strip}
	d.class = caller
	d.note(c)
	if grant := r.header[headerGrant]; len(grant) > 0 {
		who, no := callerByGrant(grant, t, now)
		if no != nil {
			return nil, d.refused(no)
		}
		d.client = who.identity
		d.label = who.key.Client
		d.key = who.key
		d.cohort = who.client.Cohort
		if c.name != "" && !who.mayCall(c.name) {
			return nil, d.refused(refuseRight(d.label, c))
		}
		d.limit(who.client, c, false)
	} else if !mayOwn(caller, c.method) {
		return nil, d.refused(refuseGrantless(c.method, caller))
	}
	if c.name != "" && serviceOf(c.name) != scope {
		return nil, d.refused(refuseForeign(c.name, scope))
	}
	if pinned := r.header[headerTarget]; len(pinned) > 0 {
		return d.pin(pinned, t)
	}
	return d.resolve(c, t)
}

// mayOwn tells what a caller does on its own behalf. The control plane probes with any call; the hub only lists, so
// that a grant it forgets to hand on is a refusal and not a right to everything.
func mayOwn(caller, method string) bool {
	return caller == controlPlane || isStable(method) || method == "subscriptions/listen"
}

// readPath accepts POST /mcp and POST /<service>/mcp. The hub has no path of its own: it is /mcp.
func readPath(r *request) (string, *refusal) {
	scope, ok := scopeOf(r.path)
	if !ok || scope == hubService {
		return "", refuse(http.StatusNotFound, "path", "%q is not served here; use /mcp or /<service>/mcp", clip(r.path))
	}
	if r.method != http.MethodPost {
		return "", refuse(http.StatusMethodNotAllowed, "method", "%s is not answered here; MCP is POST only, and streams are not resumed", clip(r.method))
	}
	return scope, nil
}

// chooseService is step 3. A name of no known service goes to the hub, which says so as an MCP error.
func (d *decision) chooseService(c *call, t *tables) *refusal {
	prefix := serviceOf(c.name)
	if d.scope != "" {
		d.service = d.scope
		d.scope = ""
		if c.name != "" && prefix != d.service {
			return refuseForeign(c.name, d.service)
		}
		return nil
	}
	d.service = hubService
	if prefix != "" && t.services.services[prefix] != nil {
		d.service = prefix
	}
	return nil
}

// resolve is steps 5 and 6.
func (d *decision) resolve(c *call, t *tables) (*decision, *refusal) {
	s := t.services.services[d.service]
	if s == nil {
		return nil, d.refused(refuseNoTarget(d.service))
	}
	secret := t.secrets.services[d.service]
	if secret == nil {
		return nil, d.refused(refuseNoSecret(d.service))
	}
	d.proof = secret.proof
	target := ""
	switch {
	case c.legacy:
		d.reason = "legacy"
	case isStable(c.method):
		d.reason = "stable"
		target = s.Stable
	default:
		d.reason = "lane"
		if c.handle != "" {
			target = s.Instances[instanceOf(c.handle, d.client, secret)]
		}
		if target != "" {
			d.reason = "handle"
		}
	}
	if target != "" {
		d.targets = []string{target}
	} else if d.reason != "stable" {
		d.divide(c, s)
	}
	if len(d.targets) == 0 {
		return nil, d.refused(refuseNoTarget(d.service))
	}
	return d, nil
}

// pin takes the target a proven caller names; whether it is routed, the last child tells.
func (d *decision) pin(pinned []string, t *tables) (*decision, *refusal) {
	if len(pinned) > 1 || !isTarget(pinned[0], d.service) {
		return nil, d.refused(refuseHeader("%s %q is not one target of service %s", headerTarget, clip(pinned[0]), d.service))
	}
	secret := t.secrets.services[d.service]
	if secret == nil {
		return nil, d.refused(refuseNoSecret(d.service))
	}
	d.reason = "pinned"
	d.targets = []string{pinned[0]}
	d.proof = secret.proof
	return d, nil
}

// refused labels a refusal with what was already known.
func (d *decision) refused(no *refusal) *refusal {
	no.class = d.class
	no.era = d.era
	no.client = d.label
	no.service = d.service
	return no
}
