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

	headerPolicy  = "Ratelimit-Policy" // as net/http writes RateLimit-Policy
	headerBudgets = "Ratelimit"
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
	return c.name != "" && serviceOf(c.name) != hubService && covered(l.patterns, c.name)
}

// bucket is what one caller has used of one limit: the moment at which all of it is free again, in nanoseconds (the
// generic cell rate algorithm's theoretical arrival time), and how many calls are under way.
type bucket struct {
	client string // the label of metrics: of many users of one client, the client
	limit  string
	free   *int64
	busy   *int64
}

// budget is a limit as one decision applies it. Where there is no bound it is one that nobody meets: a call then takes the
// same short way (memo.go says why short).
type budget struct {
	of      *limit
	free    *int64 // the bucket's two
	busy    *int64
	step    int64 // ns that one call takes of it
	room    int64 // ns that may be taken ahead
	atOnce  int64 // calls that may be under way
	rated   bool
	policy  string
	refused *int64 // calls that found no room
}

const unbounded = int64(1) << 61

// newBudget gives a gate its share. Whatever is divided, one call fits.
func newBudget(of *limit, b *bucket, gates int64, refused *int64) *budget {
	made := &budget{of: of, free: b.free, busy: b.busy, room: unbounded, atOnce: unbounded, refused: refused}
	if of.PerS > 0 {
		step := float64(time.Second) / of.PerS * float64(gates)
		made.step = int64(math.Max(1, math.Min(step, float64(mostStepNs))))
		burst := of.Burst
		if burst == 0 {
			burst = int64(math.Max(1, math.Ceil(of.PerS)))
		}
		burst = (burst + gates - 1) / gates
		made.room = int64(math.Min(float64(burst)*float64(made.step), float64(unbounded)))
		made.rated = true
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

// takes tells whether a call finds room, and takes it. Of those that come at once, each tries again.
func (b *budget) takes(now int64) bool {
	for {
		was := atomic.LoadInt64(b.free)
		free := was
		if free < now {
			free = now
		}
		free += b.step
		if free-now > b.room {
			return false
		}
		if atomic.CompareAndSwapInt64(b.free, was, free) {
			return true
		}
	}
}

// wait is how long until a call that found no room would, in nanoseconds; what others gave back meanwhile is left to them.
func (b *budget) wait(now int64) int64 {
	wait := atomic.LoadInt64(b.free) + b.step - now - b.room
	if wait < 1 {
		return 1
	}
	return wait
}

func (b *budget) giveBack() {
	atomic.AddInt64(b.free, -b.step)
}

// left is how many calls there is room for now, and how long until all is free again.
func (b *budget) left(now int64) (int64, int64) {
	used := atomic.LoadInt64(b.free) - now
	if used < 0 {
		used = 0
	}
	calls := (b.room - used) / b.step
	if calls < 0 {
		calls = 0
	}
	return calls, used
}

// admit takes a call of the rate of all budgets or of none, and tells what is left. It stands in one piece because every
// call of a client with limits runs through it (memo.go): of `takes` it holds all but the second try.
func admit(d *decision, h http.Header, now int64) *refusal {
	for i, b := range d.budgets {
		was := atomic.LoadInt64(b.free)
		free := was
		if free < now {
			free = now
		}
		free += b.step
		if free-now > b.room || !atomic.CompareAndSwapInt64(b.free, was, free) && !b.takes(now) {
			return d.refuseRate(h, i, now)
		}
	}
	// Two calls may tell at once: each writes a whole one, and either will do.
	said := d.told
	if now > said.until {
		said = d.tell(now)
	}
	if said.policies != nil {
		h[headerPolicy] = said.policies
		h[headerBudgets] = said.lefts
	}
	return nil
}

func (d *decision) refuseRate(h http.Header, at int, now int64) *refusal {
	over := d.budgets[at]
	wait := over.wait(now)
	for _, taken := range d.budgets[:at] {
		taken.giveBack()
	}
	atomic.AddInt64(over.refused, 1)
	said := d.tell(now)
	h[headerPolicy] = said.policies
	h[headerBudgets] = said.lefts
	return d.refused(refuseLimit(d.label, over, wait))
}

// refuseBusy gives back what admit took of a call that finds too many under way.
func (d *decision) refuseBusy(over *budget) *refusal {
	for _, taken := range d.budgets {
		taken.giveBack()
	}
	atomic.AddInt64(over.refused, 1)
	return d.refused(refuseLimit(d.label, over, 0))
}

// told is what callers were last told of a decision's budgets. It is told again, as it was, for as long as that is about
// true: a tenth of a second, and while a fifth is left.
type told struct {
	until    int64
	policies []string
	lefts    []string
}

const tellEvery = int64(100 * time.Millisecond)

// tell says what is left (draft-ietf-httpapi-ratelimit-headers).
func (d *decision) tell(now int64) *told {
	said := &told{until: now + tellEvery}
	policies, lefts := "", ""
	for _, b := range d.budgets {
		if !b.rated {
			continue
		}
		calls, used := b.left(now)
		if used > b.room/5*4 {
			said.until = 0
		}
		if policies != "" {
			policies += ", "
			lefts += ", "
		}
		policies += b.policy
		lefts += `"` + b.of.Name + `";r=` + strconv.FormatInt(calls, 10) + `;t=` + seconds(used)
	}
	if policies != "" {
		said.policies = []string{policies}
		said.lefts = []string{lefts}
	}
	d.told = said
	return said
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
	d.told = &told{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range d.limits {
		series := `client="` + d.label + `",limit="` + l.Name + `"`
		b := newBudget(l, s.bucketOf(d.client, d.label, l.Name), gates, s.limited.counter(series, `client="~other",limit="~other"`))
		d.budgets = append(d.budgets, b)
		if l.Concurrent > 0 && d.countable {
			d.counted = true
			d.counting = append(d.counting, b)
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
		s.tables.memo = newMemo()
	}
}
