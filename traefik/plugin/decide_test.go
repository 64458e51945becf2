package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// drawer returns shares of these weights and a function that draws one.
func drawer(weights ...float64) (*shares, func() int) {
	lanes := []lane{}
	total := 0.0
	for i, weight := range weights {
		lanes = append(lanes, lane{Target: fmt.Sprint(i), Weight: weight})
		total += weight
	}
	s := newShares(lanes, "", total)
	d := &decision{targets: s.targets}
	d.prepare(newCounters())
	return s, func() int {
		at, _ := strconv.Atoi(draw(s, d.routes).target)
		return at
	}
}

func TestLanesHoldTheirShare(t *testing.T) {
	for _, row := range []struct{ weight, withinPct float64 }{{10, 0.5}, {1, 0.1}, {50, 0.5}, {0, 0}, {100, 0}, {33.3, 0.5}} {
		for _, start := range []uint64{0, 1, 1 << 40, math.MaxUint64 - 5} {
			s, draw := drawer(100-row.weight, row.weight)
			*s.turn = start
			hits := 0
			for i := 0; i < 5000; i++ {
				hits += draw()
			}
			if got := float64(hits) / 50; math.Abs(got-row.weight) > row.withinPct {
				t.Errorf("weight %v from %d: %v %%", row.weight, start, got)
			}
		}
	}
}

func TestASmallLaneIsMetEarlyAndEvenly(t *testing.T) {
	_, draw := drawer(99, 1)
	gap := 0
	for i := 0; i < 5000; i++ {
		gap++
		if draw() == 1 {
			gap = 0
		}
		if gap > 250 {
			t.Fatalf("%d calls in a row without the 1 %% lane", gap)
		}
	}
}

func TestServicesDoNotShareACounter(t *testing.T) {
	_, one := drawer(50, 50)
	_, other := drawer(50, 50)
	hits := 0
	for i := 0; i < 1000; i++ { // a shared walk would give each of two alternating services its own half
		hits += one()
		other()
	}
	if hits < 495 || hits > 505 {
		t.Errorf("%d of 1000 on the half lane", hits)
	}
}

func TestWeightsOfTheLanesThatAreLeftCount(t *testing.T) {
	_, draw := drawer(30, 10) // a third lane's version has no live instance: the agent took it out
	hits := 0
	for i := 0; i < 1000; i++ {
		hits += draw()
	}
	if hits < 245 || hits > 255 {
		t.Errorf("%d of 1000 on a quarter lane", hits)
	}
}

func TestPatterns(t *testing.T) {
	for _, row := range []struct {
		glob, name string
		want       bool
	}{
		{"*", "anything", true}, {"*", "", true}, {"", "", true}, {"", "a", false},
		{"a", "a", true}, {"a", "ab", false}, {"a*", "a", true}, {"a*", "ba", false},
		{"*a", "ba", true}, {"*a", "ab", false}, {"a*b", "ab", true}, {"a*b", "a", false}, {"a*a", "a", false},
		{"a*b*c", "a1b2c", true}, {"a*b*c", "acb", false}, {"**", "x", true}, {"a**b", "ab", true},
		{"filesystem://*", "filesystem://x", true}, {"search_*", "searchx", false}, {"[a-z]", "b", false}, {"a?", "ab", false},
	} {
		if got := newPattern(row.glob).matches(row.name); got != row.want {
			t.Errorf("%q on %q: %v", row.glob, row.name, got)
		}
	}
}

func TestMatchingIsLinear(t *testing.T) {
	glob, name := newPattern(strings.Repeat("a*", 500)+"b"), strings.Repeat("a", 100_000)
	if glob.matches(name) {
		t.Error("matched")
	} // a backtracking matcher would not come back from this
}

func TestEveryMissingTableIsUnavailable(t *testing.T) {
	file, world := readDecisions(t)
	row := &file.Rows[len(file.Rows)-1]
	for name, broken := range map[string]*tables{
		"services.json": {clients: world.clients, secrets: world.secrets},
		"clients.json":  {services: world.services, secrets: world.secrets},
		"secrets.json":  {services: world.services, clients: world.clients},
	} {
		for _, role := range []string{rolePublic, roleInternal} {
			r := requestOf(row)
			_, no := decide(&settings{role: role}, &request{method: "POST", path: "/mcp", header: r.Header}, broken, testTime)
			if no == nil || no.status != 503 || !strings.Contains(no.message, name) {
				t.Errorf("%s without %s: %+v", role, name, no)
			}
		}
	}
}

func TestHostsAreHeldToTheList(t *testing.T) {
	hosts := []string{"mcp.example.com", "localhost:3000"}
	for host, want := range map[string]bool{
		"mcp.example.com": true, "MCP.example.com:443": true, "localhost:3000": true, "localhost": false, "localhost:1": false,
		"evil.example": false, "mcp.example.com.evil.example": false, "": false,
	} {
		if got := hostAllowed(hosts, host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	if !hostAllowed(nil, "anything") {
		t.Error("no list, but refused")
	}
}

func TestAnOriginListReplacesLoopback(t *testing.T) {
	origins := []string{"https://console.example.com"}
	if !originAllowed(origins, []string{"https://console.example.com"}) || originAllowed(origins, []string{"http://localhost"}) {
		t.Error("the list is not what counts")
	}
}

func TestAliasesOfBelievedHeadersAreStripped(t *testing.T) {
	h := map[string][]string{
		headerVersion: {modernVersion}, headerMethod: {"tools/list"},
		"X_tekup_client": {"a"}, "X.tekup-Grant": {"a"}, "x~TEKUP~route": {"a"}, "Mcp_name": {"a"}, "Mcp-Param_handle": {"a"},
		"Mcp-Param-Page": {"a"}, "X-Other": {"a"}, "X": {"a"}, "Mcp": {"a"},
	}
	c, no := readCall(h, false)
	if no != nil {
		t.Fatal(no)
	}
	if len(c.strip) != 5 || contains(c.strip, "Mcp-Param-Page") || contains(c.strip, "X-Other") {
		t.Errorf("stripped %v", c.strip)
	}
}
