package policy

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// seriesLimit bounds the decisions' labels; what comes after it is counted together.
const seriesLimit = 20000

// counters count decisions. Labels come from the tables and from fixed words, never from what a caller sent, but
// for a proven caller's pinned target.
type counters struct {
	mu        sync.Mutex
	decisions map[string]*int64
}

func newCounters() *counters {
	return &counters{decisions: map[string]*int64{}}
}

// counter returns the one of a series, or that of rest where there are too many.
func (c *counters) counter(series, rest string) *int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decisions[series] == nil && len(c.decisions) >= seriesLimit {
		series = rest
	}
	if c.decisions[series] == nil {
		c.decisions[series] = new(int64)
	}
	return c.decisions[series]
}

func (c *counters) refused(no *refusal) {
	series := `client="` + no.client + `",service="` + no.service + `",target="",reason="` + no.reason + `"`
	atomic.AddInt64(c.counter(series, otherDecisions(no.reason)), 1)
}

func otherDecisions(reason string) string {
	return `client="~other",service="~other",target="~other",reason="` + reason + `"`
}

// print writes the Prometheus text of a store.
func (s *store) print(now time.Time) string {
	out := []string{}
	out = append(out,
		"# HELP tekup_gate_decisions_total Calls by what the gate decided; target is empty for refusals.",
		"# TYPE tekup_gate_decisions_total counter")
	out = append(out, s.counts.linesOf("tekup_gate_decisions_total")...)
	s.mu.RLock()
	defer s.mu.RUnlock()
	out = append(out,
		"# HELP tekup_gate_table_age_seconds Time since the table in force was written; absent without one.",
		"# TYPE tekup_gate_table_age_seconds gauge")
	out = appendAge(out, "services", s.services, now)
	out = appendAge(out, "clients", s.clients, now)
	out = appendAge(out, "secrets", s.secrets, now)
	out = append(out,
		"# HELP tekup_gate_table_problems Objects or files that were refused.",
		"# TYPE tekup_gate_table_problems gauge",
		fmt.Sprintf(`tekup_gate_table_problems{table="services"} %d`, len(s.services.problems)),
		fmt.Sprintf(`tekup_gate_table_problems{table="clients"} %d`, len(s.clients.problems)),
		fmt.Sprintf(`tekup_gate_table_problems{table="secrets"} %d`, len(s.secrets.problems)),
		"# HELP tekup_gate_limited_total Calls that a client's limit refused.",
		"# TYPE tekup_gate_limited_total counter")
	out = append(out, s.limited.linesOf("tekup_gate_limited_total")...)
	out = append(out, s.bucketLines(now.UnixNano())...)
	out = append(out,
		"# HELP tekup_gate_policy_age_seconds Time since the agent knew that the tables are what was decided.",
		"# TYPE tekup_gate_policy_age_seconds gauge")
	if at := atomic.LoadInt64(s.confirmed); at != 0 {
		out = append(out, fmt.Sprintf("tekup_gate_policy_age_seconds %d", now.Unix()-at))
	}
	out = append(out,
		"# HELP tekup_gate_key_last_used_seconds When a key was last accepted, in seconds since the epoch.",
		"# TYPE tekup_gate_key_last_used_seconds gauge")
	out = append(out, keyLines(s.tables.clients)...)
	return strings.Join(out, "\n") + "\n"
}

// bucketLines show what is used of limits: of each client's callers the most.
func (s *store) bucketLines(now int64) []string {
	taken, busy := map[string]float64{}, map[string]int64{}
	for _, b := range s.buckets {
		series := `client="` + b.client + `",limit="` + b.limit + `"`
		ahead := float64(atomic.LoadInt64(b.free)-now) / float64(time.Second)
		if ahead > taken[series] {
			taken[series] = ahead
		}
		busy[series] += atomic.LoadInt64(b.busy)
	}
	lines := []string{
		"# HELP tekup_gate_limit_used_seconds How long until a limit is free again, if nothing more is called.",
		"# TYPE tekup_gate_limit_used_seconds gauge",
	}
	for series := range busy {
		lines = append(lines, fmt.Sprintf("tekup_gate_limit_used_seconds{%s} %.3f", series, taken[series]))
	}
	lines = append(lines,
		"# HELP tekup_gate_limit_calls_under_way Calls that count against a limit and have not ended.",
		"# TYPE tekup_gate_limit_calls_under_way gauge")
	for series, count := range busy {
		lines = append(lines, fmt.Sprintf("tekup_gate_limit_calls_under_way{%s} %d", series, count))
	}
	return lines
}

func (c *counters) linesOf(metric string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := []string{}
	for series, count := range c.decisions {
		lines = append(lines, fmt.Sprintf("%s{%s} %d", metric, series, atomic.LoadInt64(count)))
	}
	sort.Strings(lines)
	return lines
}

func appendAge(out []string, table string, from *source, now time.Time) []string {
	if !from.good {
		return out
	}
	return append(out, fmt.Sprintf(`tekup_gate_table_age_seconds{table="%s"} %.3f`, table, now.Sub(from.since).Seconds()))
}

func keyLines(table *clientTable) []string {
	lines := []string{}
	if table == nil {
		return lines
	}
	for _, k := range table.held() {
		if used := atomic.LoadInt64(k.used); used != 0 {
			lines = append(lines, fmt.Sprintf(`tekup_gate_key_last_used_seconds{key="%s",client="%s"} %d`, k.id, k.Client, used/1e9))
		}
	}
	sort.Strings(lines)
	return lines
}
