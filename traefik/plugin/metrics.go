package policy

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// seriesLimit bounds the labels of each metric; what comes after it is counted together.
	seriesLimit = 20000
	// toolLimit bounds the names that are told apart of each service: what tools there are, only services know.
	toolLimit = 256

	others = "~other"
	nobody = "none"

	classKey    = "key"
	classBearer = "bearer"
	eraModern   = "modern"
	eraLegacy   = "legacy"

	passed  = "passed"
	refused = "refused"
)

// counters count one metric's series. Labels come from the tables and from fixed words, never from what a caller sent,
// but for a proven caller's pinned target, and for tools' names, of which there are toolLimit a service.
//
// It must not point to its own kind: route does so already, and the interpreter takes one such type for the other.
type counters struct {
	mu        sync.Mutex
	decisions map[string]*int64
	usage     map[string]*int64 // what each client used
	tools     map[string]map[string]bool
}

func newCounters() *counters {
	return &counters{decisions: map[string]*int64{}, usage: map[string]*int64{}, tools: map[string]map[string]bool{}}
}

// counter returns the one of a series, or that of rest where there are too many.
func (c *counters) counter(series, rest string) *int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return counterIn(c.decisions, series, rest)
}

func counterIn(held map[string]*int64, series, rest string) *int64 {
	if held[series] == nil && len(held) >= seriesLimit {
		series = rest
	}
	if held[series] == nil {
		held[series] = new(int64)
	}
	return held[series]
}

// toolOf is a tool's name as a label: what is no name of a tool, or one too many, is told apart no more.
func (c *counters) toolOf(service, tool string) string {
	if tool == "" {
		return ""
	}
	if len(tool) > 64 || !only(tool, alnum+"_-") {
		return others
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.tools[service]
	if known == nil {
		known = map[string]bool{}
		c.tools[service] = known
	}
	if !known[tool] {
		if len(known) >= toolLimit {
			return others
		}
		known[tool] = true
	}
	return tool
}

// passedTo returns the counter of what goes to a target by a decision.
func (c *counters) passedTo(d *decision, target string) *int64 {
	series := seriesOf(d.class, d.era, d.service, c.toolOf(d.service, d.tool), target, "")
	return c.counter(series, seriesOf(others, others, others, others, others, ""))
}

// usedBy returns the counter of what a client uses of a service, by how the gate answered.
func (c *counters) usedBy(client, service, outcome string) *int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return counterIn(c.usage, usageOf(client, service, outcome), usageOf(others, others, outcome))
}

func (c *counters) refused(no *refusal) {
	class := no.class
	if class == "" {
		class = nobody
	}
	era := no.era
	if era == "" {
		era = nobody
	}
	series := seriesOf(class, era, no.service, "", "", no.reason)
	atomic.AddInt64(c.counter(series, seriesOf(others, others, others, "", "", no.reason)), 1)
	atomic.AddInt64(c.usedBy(no.client, no.service, refused), 1)
}

func seriesOf(class, era, service, tool, target, reason string) string {
	return `class="` + class + `",era="` + era + `",service="` + service + `",tool="` + tool + `",target="` + target + `",reason="` + reason + `"`
}

func usageOf(client, service, outcome string) string {
	return `client="` + client + `",service="` + service + `",outcome="` + outcome + `"`
}

// note keeps of a call what its decision is counted by.
func (d *decision) note(c *call) {
	d.era = c.era()
	if c.method == "tools/call" {
		d.tool = c.name
	}
}

func (c *call) era() string {
	if c.legacy {
		return eraLegacy
	}
	return eraModern
}

// class is what proves callers of the public entrypoint.
func (p *settings) class() string {
	if p.role == roleForeign {
		return classBearer
	}
	return classKey
}

// by labels a refusal before there is a decision: with who has proven to call, and in which era.
func (n *refusal) by(class, era string) *refusal {
	n.class = class
	n.era = era
	return n
}

// print writes the Prometheus text of a store.
func (s *store) print(now time.Time) string {
	out := []string{}
	out = append(out,
		"# HELP tekup_gate_decisions_total Calls by what the gate decided; reason is empty for those passed on, tool and target for refusals.",
		"# TYPE tekup_gate_decisions_total counter")
	out = append(out, s.counts.linesOf("tekup_gate_decisions_total", s.counts.decisions)...)
	out = append(out,
		"# HELP tekup_gate_client_calls_total Calls of a client by how the gate answered; one that the hub takes to a service is one of the hub and one of the service.",
		"# TYPE tekup_gate_client_calls_total counter")
	out = append(out, s.counts.linesOf("tekup_gate_client_calls_total", s.counts.usage)...)
	s.mu.RLock()
	defer s.mu.RUnlock()
	out = append(out,
		"# HELP tekup_gate_table_age_seconds Seconds since the table in force was written; absent without one.",
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
	out = append(out, s.limited.linesOf("tekup_gate_limited_total", s.limited.decisions)...)
	out = append(out, s.bucketLines(now.UnixNano())...)
	out = append(out,
		"# HELP tekup_gate_policy_age_seconds Seconds since the agent knew that the tables are what was decided.",
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
		"# HELP tekup_gate_limit_used_seconds Seconds until a limit is free again, if nothing more is called.",
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

func (c *counters) linesOf(metric string, held map[string]*int64) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	lines := []string{}
	for series, count := range held {
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
	for id, k := range table.keys {
		if used := atomic.LoadInt64(k.used); used != 0 {
			lines = append(lines, fmt.Sprintf(`tekup_gate_key_last_used_seconds{key="%s",client="%s"} %d`, id, k.Client, used/1e9))
		}
	}
	sort.Strings(lines)
	return lines
}
