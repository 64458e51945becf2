package policy

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const second = int64(time.Second)

func budgetOf(l limit, gates int64) *budget {
	return newBudget(&l, &bucket{free: new(int64), busy: new(int64)}, gates, new(int64))
}

// take is what a call does to one budget; how long to wait where there is no room.
func (b *budget) take(now int64) int64 {
	if admit(&decision{budgets: []*budget{b}, told: &told{}}, http.Header{}, now) == nil {
		return 0
	}
	return b.wait(now)
}

func TestALimitGivesItsBurstAndThenItsRate(t *testing.T) {
	for _, row := range []struct {
		perS         float64
		burst, gates int64
		first, later int // calls let through at once, and over the next 100 s of one try each 10 ms
	}{{5, 10, 1, 10, 500}, {5, 0, 1, 5, 500}, {0.5, 0, 1, 1, 50}, {10, 20, 2, 10, 500}, {1, 1, 3, 1, 33}, {1000, 50, 1, 50, 10000}} {
		b := budgetOf(limit{Name: "x", PerS: row.perS, Burst: row.burst}, row.gates)
		now := 1_000_000 * second
		first := 0
		for i := 0; i < 1000; i++ {
			if b.take(now) == 0 {
				first++
			}
		}
		later := 0
		for i := 1; i <= 10_000; i++ {
			if b.take(now+int64(i)*10*int64(time.Millisecond)) == 0 {
				later++
			}
		}
		if first != row.first || later < row.later-1 || later > row.later {
			t.Errorf("%+v: %d at once, %d later", row, first, later)
		}
	}
}

func TestARefusalSaysWhenThereIsRoomAgain(t *testing.T) {
	b := budgetOf(limit{Name: "x", PerS: 0.25, Burst: 2}, 1)
	now := second
	b.take(now)
	b.take(now)
	wait := b.take(now)
	if wait != 4*second {
		t.Fatalf("to wait: %v", time.Duration(wait))
	}
	if b.take(now+wait-1) == 0 || b.take(now+wait) != 0 {
		t.Error("there is room before it was said, or none then")
	}
}

func TestWhatIsLeftIsWhatCanBeTaken(t *testing.T) {
	b := budgetOf(limit{Name: "x", PerS: 3, Burst: 7}, 1)
	for at := int64(0); at < 40; at++ {
		now := second + at*100*int64(time.Millisecond)
		left, _ := b.left(now)
		taken := int64(0)
		for b.take(now) == 0 {
			taken++
		}
		if taken != left {
			t.Fatalf("at %d: %d were said to be left, %d could be taken", at, left, taken)
		}
	}
}

func TestManyAtOnceTakeNoMoreThanThereIs(t *testing.T) {
	b := budgetOf(limit{Name: "x", PerS: 1, Burst: 100}, 1)
	var work sync.WaitGroup
	taken := make([]int, 8)
	for worker := range taken {
		work.Add(1)
		go func(worker int) {
			defer work.Done()
			for i := 0; i < 1000; i++ {
				if b.take(second) == 0 {
					taken[worker]++
				}
			}
		}(worker)
	}
	work.Wait()
	total := 0
	for _, count := range taken {
		total += count
	}
	if total != 100 {
		t.Errorf("%d were taken of 100", total)
	}
}

const limitedClients = `{"serial":1,"epoch":1,"number":1,"gates":%d,"clients":{"dev":{"allow":["*"],"limits":%s}},
	"keys":{"k1":{"client":"dev","hash":"%s","grant":"a.b"}}}`

// admitted is what becomes of a call that counts as under way from then on.
func (d *decision) admitted(now int64) *refusal {
	no := admit(d, http.Header{}, now)
	for i := 0; i < len(d.counting) && no == nil; i++ {
		if b := d.counting[i]; atomic.AddInt64(b.busy, 1) > b.atOnce {
			atomic.AddInt64(b.busy, -1)
			no = d.refuseBusy(b)
		}
	}
	return no
}

// limitedGate decides for one client with limits; the next handler is told.
func limitedGate(t *testing.T, limits string, gates int, next http.Handler) (*gate, *key) {
	t.Helper()
	s := furnished(t)
	put(t, s, "clients.json", fmt.Sprintf(limitedClients, gates, limits, someHex))
	config := CreateConfig()
	config.Role = rolePublic
	return &gate{next: next, settings: newSettings(config), store: s}, s.current().clients.keys["k1"]
}

// decided is what the gate would decide of a call, without its key.
func (g *gate) decided(k *key, method, name string, edge bool) *decision {
	d := &decision{client: k.Client, label: k.Client, key: k, service: "alpha", targets: []string{"alpha_1"}, reason: "lane"}
	t := g.store.current()
	d.limit(t.clients.clients[k.Client], &call{method: method, name: name}, edge)
	d.prepare(g.store.counts)
	g.store.allot(d, t.gatesOf())
	return d
}

func names(d *decision) string {
	said := []string{}
	for _, b := range d.budgets {
		said = append(said, b.of.Name)
	}
	return strings.Join(said, " ")
}

func TestWhichLimitsACallCountsAgainst(t *testing.T) {
	g, k := limitedGate(t, `[{"name":"all","per_s":9},{"name":"reads","tools":["alpha_read*"],"per_s":3},{"name":"any","tools":["*"],"concurrent":2}]`, 1, nil)
	for _, row := range []struct {
		method, name string
		edge         bool
		want         string
	}{
		{"tools/call", "alpha_read", true, "all reads any"},
		{"tools/call", "alpha_write", true, "all any"},
		{"tools/call", "alpha_read", false, "reads any"},
		{"tools/call", "hub_call_tool", true, "all"},
		{"tools/list", "", true, "all"},
		{"tools/list", "", false, ""},
		{"", "", true, "all"}, // of the legacy era
		{"server/discover", "", true, ""},
		{"subscriptions/listen", "", true, "all"},
	} {
		if got := names(g.decided(k, row.method, row.name, row.edge)); got != row.want {
			t.Errorf("%+v: counts against %q", row, got)
		}
	}
}

func TestACallIsTakenOfAllItsLimitsOrOfNone(t *testing.T) {
	g, k := limitedGate(t, `[{"name":"all","per_s":0.001,"burst":10,"concurrent":5},{"name":"reads","tools":["alpha_read*"],"per_s":0.001,"burst":2}]`, 1, nil)
	d := g.decided(k, "tools/call", "alpha_read", true)
	now := second * 1000
	for i := 0; i < 6; i++ {
		if no := d.admitted(now); (no == nil) != (i < 2) {
			t.Fatalf("call %d: %+v", i, no)
		}
	}
	if left, _ := d.budgets[0].left(now); left != 8 || *d.budgets[0].busy != 2 {
		t.Errorf("%d calls are left, %d under way; refused calls took of a limit that had room", left, *d.budgets[0].busy)
	}
}

func TestCallsUnderWayAreCountedUntilTheyEndHoweverTheyEnd(t *testing.T) {
	inside, goOn := make(chan bool), make(chan bool)
	g, k := limitedGate(t, `[{"name":"two","concurrent":2}]`, 1, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Panic") != "" {
			panic(http.ErrAbortHandler)
		}
		inside <- true
		<-goOn
	}))
	d := g.decided(k, "tools/call", "alpha_read", true)
	carry := func(header string) {
		defer func() { _ = recover() }()
		r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		r.Header.Set(header, "1")
		if admit(d, http.Header{}, second) == nil {
			serveCounted(g, httptest.NewRecorder(), r, d, second, 0)
		}
	}
	for i := 0; i < 5; i++ {
		carry("X-Panic")
	}
	go carry("X-Any")
	go carry("X-Any")
	<-inside
	<-inside
	if no := d.admitted(second); no == nil || no.status != http.StatusTooManyRequests || no.retry != "1" {
		t.Errorf("a third is let through: %+v", no)
	}
	goOn <- true
	goOn <- true
	for i := 0; i < 1000 && *d.budgets[0].busy > 0; i++ {
		time.Sleep(time.Millisecond)
	}
	if no := d.admitted(second); no != nil {
		t.Errorf("after both have ended: %+v", no)
	}
}

func TestAStreamOfChangesIsNoCallUnderWay(t *testing.T) {
	g, k := limitedGate(t, `[{"name":"one","concurrent":1}]`, 1, nil)
	listening := g.decided(k, "subscriptions/listen", "", true)
	for i := 0; i < 3; i++ {
		if no := listening.admitted(second); no != nil {
			t.Fatal(no)
		}
	}
	if no := g.decided(k, "tools/list", "", true).admitted(second); no != nil {
		t.Error(no)
	}
}

func TestWhatIsUsedOutlivesATable(t *testing.T) {
	g, k := limitedGate(t, `[{"name":"all","per_s":0.001,"burst":3}]`, 1, nil)
	now := time.Now().UnixNano()
	if no := g.decided(k, "tools/list", "", true).admitted(now); no != nil {
		t.Fatal(no)
	}
	put(t, g.store, "clients.json", fmt.Sprintf(limitedClients, 1, `[{"name":"all","per_s":0.001,"burst":2}]`, someHex))
	d := g.decided(g.store.current().clients.keys["k1"], "tools/list", "", true)
	if left, _ := d.budgets[0].left(now); left != 1 {
		t.Errorf("%d are left of 2, one of which was used", left)
	}
}

func TestIdleBucketsArePrunedAndBusyOnesAreNot(t *testing.T) {
	g, k := limitedGate(t, `[{"name":"rate","per_s":1},{"name":"held","tools":["alpha_hold"],"concurrent":1}]`, 1, nil)
	if no := g.decided(k, "tools/call", "alpha_hold", true).admitted(second); no != nil {
		t.Fatal(no)
	}
	g.store.current().memo[sha256.Sum256(nil)] = &decision{}
	g.store.prune(100 * second)
	if len(g.store.buckets) != 1 || g.store.buckets["dev/held"] == nil || len(g.store.current().memo) != 0 {
		t.Errorf("left are %v, and %d decisions", g.store.buckets, len(g.store.current().memo))
	}
}

func TestUsersOfOneClientHaveBudgetsOfTheirOwn(t *testing.T) {
	g, k := limitedGate(t, `[{"name":"all","per_s":0.001,"burst":1}]`, 1, nil)
	for _, user := range []string{"dev~01", "dev~02"} {
		d := &decision{client: user, label: "dev", key: k}
		d.limit(g.store.current().clients.clients["dev"], &call{}, true)
		g.store.allot(d, 1)
		if no := d.admitted(second); no != nil {
			t.Errorf("%s: %+v", user, no)
		}
	}
	page := g.store.print(time.Unix(2, 0))
	if strings.Count(page, `tekup_gate_limit_used_seconds{client="dev",limit="all"}`) != 1 || strings.Contains(page, "dev~") {
		t.Error("a user is a label of its own:\n" + page)
	}
}

func TestALimitThatMakesNoSenseRefusesItsClient(t *testing.T) {
	for _, bad := range []string{`{"name":"x"}`, `{"name":"X","per_s":1}`, `{"name":"x","per_s":-1}`, `{"name":"x","concurrent":-1,"per_s":1}`, `{"name":"x","per_s":"1"}`} {
		if _, err := decodeClient("dev", []byte(`{"allow":["*"],"limits":[`+bad+`]}`)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
