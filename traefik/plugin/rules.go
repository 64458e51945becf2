package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// How calls are divided: by a service's own lanes, or by those of the first of its rules that matches.

const (
	splitRequest = "request"
	splitClient  = "client"

	// mirrorSign joins two version targets to the target that sends a copy of each call to the second.
	mirrorSign = "~"
	// mirrorLimit is the largest body of a call that is copied; maxBodySize of the targets is the same.
	mirrorLimit = 64 << 10
)

type lane struct {
	Target string  `json:"target"`
	Weight float64 `json:"weight_pct"`
}

type rule struct {
	Name   string   `json:"name"`
	Tools  []string `json:"tools"`
	Cohort string   `json:"cohort"`
	Lanes  []lane   `json:"lanes"`

	patterns []pattern `json:"-"`
	shares   *shares   `json:"-"`
}

// shares are lanes laid out over 0-1, never changed once built but for the walk behind turn, which outlives a table.
type shares struct {
	targets []string  // of the lanes that weigh anything
	bounds  []float64 // where each of them ends
	cuts    []uint64  // the same but the last one's, over 0-2^64
	turn    *uint64
}

// newShares puts the stable version's lane last, so that a canary that grows takes over what was next to it and
// nobody else's part moves. Weights that do not sum to 100 (the agent takes out a version without live instances)
// keep their proportions.
func newShares(lanes []lane, stable string, total float64) *shares {
	s := &shares{turn: new(uint64)}
	end := 0.0
	for _, last := range []bool{false, true} {
		for _, l := range lanes {
			if l.Weight > 0 && (plainOf(l.Target) == stable) == last {
				end += l.Weight / total
				s.targets = append(s.targets, l.Target)
				s.bounds = append(s.bounds, end)
			}
		}
	}
	if len(s.bounds) > 0 {
		s.bounds[len(s.bounds)-1] = 1 // sums of floats miss it
		for _, bound := range s.bounds[:len(s.bounds)-1] {
			s.cuts = append(s.cuts, uint64(math.Min(math.Ceil(bound*(1<<53)), 1<<53-1))<<11)
		}
	}
	return s
}

// at tells the lane a point of 0-1 lies in.
func (s *shares) at(point float64) int {
	for i, bound := range s.bounds {
		if point < bound {
			return i
		}
	}
	return len(s.bounds) - 1
}

// draw picks a lane. Its point walks the unit interval in steps of the golden ratio, one walk per service and rule:
// any run of n calls holds each weight to within a few calls, even at 1 %. (A shared walk would alias.)
func draw(s *shares, routes []*route) *route {
	const goldenStep = 0x9E3779B97F4A7C15 // 2^64 / golden ratio
	point := atomic.AddUint64(s.turn, goldenStep)
	for i, cut := range s.cuts {
		if point < cut {
			return routes[i]
		}
	}
	return routes[len(routes)-1]
}

// pointOf is a client's own point in 0-1: it stays where it is while the lanes move, so a client changes sides at
// most once as a canary grows. Another salt is another order of clients.
func pointOf(salt, client string) float64 {
	sum := sha256.Sum256([]byte(salt + "/" + client))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}

// matches tells whether a rule is for this call. Calls without a name that is believed meet rules for every call only.
func (r *rule) matches(name, cohort string) bool {
	if r.Cohort != "" && r.Cohort != cohort {
		return false
	}
	return len(r.patterns) == 0 || name != "" && covered(r.patterns, name)
}

// divide finds the lanes of a call that nothing binds to one target.
func (d *decision) divide(c *call, s *service) {
	d.among = s.shares
	for _, r := range s.Rules {
		if r.matches(c.name, d.cohort) {
			d.reason = "rule"
			d.among = r.shares
			break
		}
	}
	d.targets = d.among.targets
	if s.Split == splitClient && len(d.targets) > 0 {
		d.targets = []string{d.targets[d.among.at(pointOf(s.Salt, d.client))]}
	}
	d.copied = isNamed(c.method)
}

// plainOf takes the copies from a target.
func plainOf(target string) string {
	if at := strings.Index(target, mirrorSign); at >= 0 {
		return target[:at]
	}
	return target
}

// isLaneTarget tells what a rule's lane may lead to: a target of the service, or two of its versions.
func isLaneTarget(target, service string) bool {
	parts := strings.Split(target, mirrorSign)
	if len(parts) == 1 {
		return isTarget(target, service)
	}
	return len(parts) == 2 && parts[0] != parts[1] && isVersionTarget(parts[0], service) && isVersionTarget(parts[1], service)
}

func isVersionTarget(target, service string) bool {
	return isTarget(target, service) && strings.Count(target, "_") == 1
}

// decodeRules checks the rules of a service and makes them ready.
func decodeRules(item *service, service string) error {
	names := map[string]bool{}
	for _, r := range item.Rules {
		if r == nil || !isID(r.Name) || names[r.Name] {
			return errors.New("a rule is named [a-z0-9][a-z0-9-]{0,62}, each otherwise")
		}
		names[r.Name] = true
		if len(r.Cohort) > 63 || !only(r.Cohort, lower+digits+"-") {
			return fmt.Errorf("rule %s: cohort %q is not [a-z0-9-]{0,63}", r.Name, clip(r.Cohort))
		}
		total, err := weigh(r.Lanes, service, isLaneTarget)
		if err == nil && len(r.Lanes) == 0 {
			err = errors.New("it has no lanes")
		}
		if err != nil {
			return fmt.Errorf("rule %s: %w", r.Name, err)
		}
		for _, glob := range r.Tools {
			r.patterns = append(r.patterns, newPattern(glob))
		}
		r.shares = newShares(r.Lanes, item.Stable, total)
	}
	return nil
}

// weigh checks lanes and sums up their weights.
func weigh(lanes []lane, service string, allowed func(target, service string) bool) (float64, error) {
	total := 0.0
	for _, l := range lanes {
		if !allowed(l.Target, service) || !(l.Weight >= 0 && l.Weight <= 100) {
			return 0, fmt.Errorf("lane %q with weight_pct %v: wants a target of it and 0-100", l.Target, l.Weight)
		}
		total += l.Weight
	}
	if len(lanes) > 0 && total == 0 {
		return 0, errors.New("all its lanes weigh 0")
	}
	return total, nil
}

// keepTurns lets the walks of a service go on where those of its last table are.
func (s *service) keepTurns(old *service) {
	s.shares.turn = old.shares.turn
	for _, r := range s.Rules {
		for _, was := range old.Rules {
			if was.Name == r.Name {
				r.shares.turn = was.shares.turn
			}
		}
	}
}

// copyable tells whether Traefik can hold the call's body for a copy: an attempt that failed must not have used it up.
func copyable(r *http.Request) bool {
	return r.ContentLength > 0 && r.ContentLength <= mirrorLimit
}

// newCall makes the id by which both sides of a copied call are known.
func (s *store) newCall() []string {
	return []string{s.origin + strconv.FormatUint(atomic.AddUint64(s.calls, 1), 16)}
}
