package policy

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// How much a client may use. What a limit allows stands in the table; what is used of it stands in buckets, which
// outlive tables and belong to one caller and one limit. A gate holds its share of each limit: the agent says over how
// many gates it is divided, so that all of them together allow no more than was decided.

const (
	reasonLimit = "limit"

	headerPolicy  = "RateLimit-Policy"
	headerBudgets = "RateLimit"
	mostStepNs    = int64(365 * 24 * time.Hour)

	pruneEvery = 60 * time.Second
)

type limit struct {
	Name       string   `json:"name"`
	Tools      []string `json:"tools"`
	PerS       float64  `json:"per_s"`
	Burst      int64    `json:"burst"`
	Concurrent int64    `json:"concurrent"`

	patterns []pattern `json:"-"`
}

// check refuses what makes no sense; the client is refused with it, since without its limits it would be without bound.
func (l *limit) check() error {
	switch {
	case !isID(l.Name):
		return errors.New("a limit is named [a-z0-9][a-z0-9-]{0,62}")
	case !(l.PerS >= 0) || math.IsInf(l.PerS, 0) || l.Burst < 0 || l.Concurrent < 0:
		return fmt.Errorf("limit %s has a negative or infinite number", l.Name)
	case l.PerS == 0 && l.Concurrent == 0:
		return fmt.Errorf("limit %s limits nothing; it wants per_s or concurrent", l.Name)
	}
	for _, glob := range l.Tools {
		l.patterns = append(l.patterns, newPattern(glob))
	}
	return nil
}

// covers tells whether a call counts against this limit. One for everything counts what a client sends to the edge,
// once; one for some names counts these wherever they are believed: an older client's calls come back by the internal
// entrypoint, where they have a name. Of the hub's own tools, what they lead to counts.
func (l *limit) covers(c *call, edge bool) bool {
	if len(l.patterns) == 0 {
		return edge
	}
	if c.name == "" || serviceOf(c.name) == hubService {
		return false
	}
	for _, p := range l.patterns {
		if p.matches(c.name) {
			return true
		}
	}
	return false
}

// bucket is what one caller has used of one limit: the moment at which all of it is free again, in nanoseconds (the
// generic cell rate algorithm's theoretical arrival time), and how many calls are under way.
type bucket struct {
	client string // the label of metrics: of many users of one client, the client
	limit  string
	free   *int64
	busy   *int64
}

// budget is a limit as one decision applies it.
type budget struct {
	of     *limit
	bucket *bucket
	step   int64 // ns that one call takes of it; 0: no rate
	room   int64 // ns that may be taken ahead
	atOnce int64 // calls that may be under way; 0: any number
	policy string
	full   *int64 // calls that found no room
}

// newBudget gives a gate its share. Whatever is divided, one call fits.
func newBudget(of *limit, b *bucket, gates int64, refused *int64) *budget {
	made := &budget{of: of, bucket: b, full: refused}
	if of.PerS > 0 {
		step := float64(time.Second) / of.PerS * float64(gates)
		made.step = int64(math.Max(1, math.Min(step, float64(mostStepNs))))
		burst := of.Burst
		if burst == 0 {
			burst = int64(math.Max(1, math.Ceil(of.PerS)))
		}
		burst = (burst + gates - 1) / gates
		made.room = int64(math.Min(float64(burst)*float64(made.step), float64(math.MaxInt64/4)))
		made.policy = `"` + of.Name + `";q=` + strconv.FormatInt(burst, 10) + `;w=` + seconds(made.room)
	}
	if of.Concurrent > 0 {
		made.atOnce = (of.Concurrent + gates - 1) / gates
	}
	return made
}

// seconds, rounded up: what is said is enough.
func seconds(ns int64) string {
	return strconv.FormatInt((ns+int64(time.Second)-1)/int64(time.Second), 10)
}

// take takes one call of the rate, or returns how long until there is room, in nanoseconds.
func (b *budget) take(now int64) int64 {
	for {
		free := atomic.LoadInt64(b.bucket.free)
		next := free
		if next < now {
			next = now
		}
		next += b.step
		wait := next - now - b.room
		if wait > 0 {
			return wait
		}
		if atomic.CompareAndSwapInt64(b.bucket.free, free, next) {
			return 0
		}
	}
}

// giveBack undoes a take.
func (b *budget) giveBack() {
	atomic.AddInt64(b.bucket.free, -b.step)
}

// left is how many calls there is room for now, and how long until all is free again.
func (b *budget) left(now int64) (int64, int64) {
	used := atomic.LoadInt64(b.bucket.free) - now
	if used < 0 {
		used = 0
	}
	calls := (b.room - used) / b.step
	if calls < 0 {
		calls = 0
	}
	return calls, used
}

// enter begins a call, unless as many as may are under way.
func (b *budget) enter() bool {
	if b.atOnce == 0 {
		return true
	}
	if atomic.AddInt64(b.bucket.busy, 1) > b.atOnce {
		atomic.AddInt64(b.bucket.busy, -1)
		return false
	}
	return true
}

func (b *budget) leave() {
	if b.atOnce > 0 {
		atomic.AddInt64(b.bucket.busy, -1)
	}
}

// admit takes a call of all budgets or of none. What it takes of `enter` is given back by leaveAll.
func (d *decision) admit(now int64) *refusal {
	for i, b := range d.budgets {
		wait := int64(0)
		if b.step > 0 {
			wait = b.take(now)
		}
		entered := wait == 0 && (!d.counted || b.enter())
		if entered {
			continue
		}
		if wait == 0 && b.step > 0 {
			b.giveBack()
		}
		for _, taken := range d.budgets[:i] {
			if taken.step > 0 {
				taken.giveBack()
			}
			if d.counted {
				taken.leave()
			}
		}
		atomic.AddInt64(b.full, 1)
		return d.refused(refuseLimit(d.label, b, wait))
	}
	return nil
}

func (d *decision) leaveAll() {
	for _, b := range d.budgets {
		b.leave()
	}
}

// showBudgets tells a caller what is left (draft-ietf-httpapi-ratelimit-headers).
func (d *decision) showBudgets(h http.Header, now int64) {
	policies, lefts := "", ""
	for _, b := range d.budgets {
		if b.step == 0 {
			continue
		}
		calls, used := b.left(now)
		if policies != "" {
			policies += ", "
			lefts += ", "
		}
		policies += b.policy
		lefts += `"` + b.of.Name + `";r=` + strconv.FormatInt(calls, 10) + `;t=` + seconds(used)
	}
	if policies != "" {
		h.Set(headerPolicy, policies)
		h.Set(headerBudgets, lefts)
	}
}

// serveLimited is the way of a call that has budgets.
func (g *gate) serveLimited(w http.ResponseWriter, r *http.Request, d *decision) bool {
	now := time.Now().UnixNano()
	no := d.admit(now)
	d.showBudgets(w.Header(), now)
	if no == nil {
		return true
	}
	g.refuse(w, r, no)
	return false
}

// carry passes on a call that something is counted of; it ends when its answer does, however that ends.
func (g *gate) carry(w http.ResponseWriter, r *http.Request, d *decision, held int64) {
	defer g.ended(d, held)
	g.next.ServeHTTP(w, r)
}

func (g *gate) ended(d *decision, held int64) {
	if d.counted {
		d.leaveAll()
	}
	g.letGo(held)
}

func refuseLimit(client string, b *budget, wait int64) *refusal {
	if wait == 0 {
		no := refuse(http.StatusTooManyRequests, reasonLimit,
			"client %s has as many calls under way as its limit %q allows (%d here); wait for one to end", client, b.of.Name, b.atOnce)
		no.retry = "1"
		no.data = map[string]interface{}{"limit": b.of.Name, "concurrent": b.atOnce}
		return no
	}
	no := refuse(http.StatusTooManyRequests, reasonLimit,
		"client %s has used up its limit %q (%s calls a second); try again in %s s", client, b.of.Name, strconv.FormatFloat(b.of.PerS, 'g', 6, 64), seconds(wait))
	no.retry = seconds(wait)
	no.data = map[string]interface{}{"limit": b.of.Name, "retry_after_s": math.Ceil(float64(wait)/1e6) / 1e3}
	return no
}

// bucketOf returns what a caller has used of a limit. The caller holds the store's lock.
func (s *store) bucketOf(identity, client, limit string) *bucket {
	id := identity + "/" + limit
	held := s.buckets[id]
	if held == nil {
		held = &bucket{client: client, limit: limit, free: new(int64), busy: new(int64)}
		s.buckets[id] = held
	}
	return held
}

// allot gives a decision its budgets.
func (s *store) allot(d *decision, gates int64) {
	if len(d.limits) == 0 {
		return
	}
	if gates < 1 {
		gates = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range d.limits {
		series := `client="` + d.label + `",limit="` + l.Name + `"`
		b := newBudget(l, s.bucketOf(d.client, d.label, l.Name), gates, s.limited.counter(series, `client="~other",limit="~other"`))
		d.budgets = append(d.budgets, b)
		if b.atOnce > 0 && d.countable {
			d.counted = true
		}
	}
}

// prune forgets buckets that are as good as new ones, together with the decisions that lead to them. A call that has
// just read such a decision takes from a bucket that nobody sees any more: one call each, once a minute at most.
func (s *store) prune(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := false
	for id, b := range s.buckets {
		if atomic.LoadInt64(b.free) < now && atomic.LoadInt64(b.busy) == 0 {
			delete(s.buckets, id)
			gone = true
		}
	}
	if gone {
		s.tables.memo = map[string]*decision{}
	}
}
