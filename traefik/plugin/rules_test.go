package policy

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
)

const manyClients = 10_000

func lanesOf(canaryWeight float64) *shares {
	// As the agent writes them: by version, the canary wherever its name puts it.
	return newShares([]lane{{"a_1", 100 - canaryWeight}, {"a_2", canaryWeight}}, "a_1", 100)
}

func TestAClientMovesToTheCanaryOnceAsItGrows(t *testing.T) {
	for _, salt := range []string{"", "a-1", "a-2", "rollout.17"} {
		moved := map[string]int{}
		was := map[string]string{}
		for _, weight := range []float64{0, 1, 5, 20, 50, 100} {
			s := lanesOf(weight)
			onCanary := 0
			for i := 0; i < manyClients; i++ {
				client := fmt.Sprint("client-", i)
				target := s.targets[s.at(pointOf(salt, client))]
				if was[client] != "" && was[client] != target {
					moved[client]++
				}
				was[client] = target
				if target == "a_2" {
					onCanary++
				}
			}
			// The 99 % interval of a binomial share.
			share := weight / 100
			within := 2.576 * math.Sqrt(manyClients*share*(1-share))
			if math.Abs(float64(onCanary)-manyClients*share) > within {
				t.Errorf("salt %q, weight %v: %d of %d clients on the canary", salt, weight, onCanary, manyClients)
			}
		}
		for client, times := range moved {
			if times != 1 {
				t.Errorf("salt %q: %s moved %d times", salt, client, times)
			}
		}
		if len(moved) != manyClients {
			t.Errorf("salt %q: %d clients moved", salt, len(moved))
		}
	}
}

func TestClientsComeBackOnlyAsTheWeightFalls(t *testing.T) {
	for i := 0; i < 1000; i++ {
		point := pointOf("x", fmt.Sprint(i))
		back := false
		for weight := 100.0; weight >= 0; weight-- {
			s := lanesOf(weight)
			stable := s.targets[s.at(point)] == "a_1"
			if back && !stable {
				t.Fatalf("client %d went to the canary as it fell to %v", i, weight)
			}
			back = stable
		}
	}
}

func TestACopiedStableLaneTakesTheRestAsWell(t *testing.T) {
	s := newShares([]lane{{"a_1~a_3", 90}, {"a_2", 10}}, "a_1", 100)
	if s.targets[s.at(0.05)] != "a_2" || s.targets[s.at(0.15)] != "a_1~a_3" {
		t.Errorf("%v %v", s.targets, s.bounds)
	}
}

func TestAnotherSaltDrawsOtherClientsFirst(t *testing.T) {
	both := 0
	for i := 0; i < manyClients; i++ {
		client := fmt.Sprint("client-", i)
		if pointOf("a", client) < 0.1 && pointOf("b", client) < 0.1 {
			both++
		}
	}
	if both < 60 || both > 140 { // a tenth of a tenth
		t.Errorf("%d clients are first with both salts", both)
	}
}

func TestRulesOfAServiceWalkByThemselves(t *testing.T) {
	rule := `{"name":"%s","tools":["bad_%s*"],"lanes":[{"target":"bad_1","weight_pct":50},{"target":"bad_2","weight_pct":50}]}`
	raw := fmt.Sprintf(`{"stable":"bad_1","rules":[`+rule+`,`+rule+`]}`, "x", "x", "y", "y")
	s, err := decodeService("bad", []byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	counts := [2]map[string]int{{}, {}}
	routed := [2]*decision{}
	for i, r := range s.Rules {
		routed[i] = &decision{targets: r.shares.targets}
		routed[i].prepare(newCounters())
	}
	for n := 0; n < 1000; n++ { // taken in turns: a shared walk would give each rule one half
		for i, r := range s.Rules {
			counts[i][draw(r.shares, routed[i].routes).target]++
		}
	}
	for i := range counts {
		if counts[i]["bad_2"] < 495 || counts[i]["bad_2"] > 505 {
			t.Errorf("rule %d: %v", i, counts[i])
		}
	}
}

func TestWalksOfRulesOutliveATable(t *testing.T) {
	s := furnished(t)
	with := strings.Replace(goodServices, `"split"`, `"rules":[{"name":"%s","lanes":[{"target":"alpha_1","weight_pct":100}]}],"split"`, 1)
	put(t, s, "services.json", fmt.Sprintf(with, 2, "canary"))
	*s.current().services.services["alpha"].Rules[0].shares.turn = 77
	put(t, s, "services.json", fmt.Sprintf(with, 3, "canary"))
	if got := *s.current().services.services["alpha"].Rules[0].shares.turn; got != 77 {
		t.Errorf("the walk began anew: %d", got)
	}
	put(t, s, "services.json", fmt.Sprintf(with, 4, "other"))
	if got := *s.current().services.services["alpha"].Rules[0].shares.turn; got != 0 {
		t.Errorf("another rule goes on where it was: %d", got)
	}
}

func TestOnlyBodiesOfKnownAndModestSizeAreCopied(t *testing.T) {
	for length, want := range map[int64]bool{-1: false, 0: false, 1: true, mirrorLimit: true, mirrorLimit + 1: false} {
		if got := copyable(&http.Request{ContentLength: length}); got != want {
			t.Errorf("%d bytes: %v", length, got)
		}
	}
}

func TestEveryCopiedCallHasAnIDOfItsOwn(t *testing.T) {
	s, other := newStore(t.TempDir()), newStore(t.TempDir())
	seen := map[string]bool{}
	for i := 0; i < 1000; i++ {
		seen[s.newCall()[0]] = true
		seen[other.newCall()[0]] = true
	}
	if len(seen) != 2000 {
		t.Errorf("%d ids for 2000 calls", len(seen))
	}
}
