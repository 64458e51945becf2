package policy

import (
	"math"
	"time"
)

const (
	headerGate    = "X-Tekup-Gate"
	headerClient  = "X-Tekup-Client"
	headerGrant   = "X-Tekup-Grant"
	headerService = "X-Tekup-Service"
	headerRoute   = "X-Tekup-Route"
	headerScope   = "X-Tekup-Scope"
	headerCall    = "X-Tekup-Call"
	headerTarget  = "X-Tekup-Target"
	headerCaller  = "X-Tekup-Caller"
	headerProof   = "X-Tekup-Proof"
	headerRefusal = "X-Tekup-Refusal"

	servicesPath = "/tekup/services"
)

// route is one target a decision can end at.
type route struct {
	target string
	header []string // the target, as the route header's value
	count  *int64
	plain  *route // of a target with copies: the one without
}

// prepare makes ready what ServeHTTP needs: the headers to set, the routes and their counters. All of it is shared
// by the calls of this decision, and nobody behind the gate changes a header's values in place.
func (d *decision) prepare(c *counters) {
	d.proofs = []string{d.proof}
	d.clients = []string{d.client}
	d.services = []string{d.service}
	d.scopes = []string{d.scope}
	d.until = math.MaxInt64
	if d.key != nil {
		d.grants = []string{d.key.Grant}
		if d.key.Expires != 0 {
			d.until = inNanoseconds(d.key.Expires)
		}
	}
	d.used = c.usedBy(d.label, d.service, passed)
	for _, target := range d.targets {
		d.routes = append(d.routes, d.routeTo(target, c))
	}
	if len(d.routes) == 1 {
		d.only = d.routes[0]
	}
}

func (d *decision) routeTo(target string, c *counters) *route {
	plain := plainOf(target)
	if !d.copied {
		target = plain
	}
	made := &route{target: target, header: []string{target}, count: c.passedTo(d, target)}
	if target != plain {
		made.plain = d.routeTo(plain, c)
	}
	return made
}

// inNanoseconds of a time in seconds; those after the year 2262 are never.
func inNanoseconds(at int64) int64 {
	if at > 9_223_372_036 {
		return math.MaxInt64
	}
	return at * int64(time.Second)
}
