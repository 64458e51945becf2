package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	wholeClients = `{"serial":%d,"epoch":1,"number":2,"changes":true,"clients":{"dev":{"allow":["*"]},"ci":{"allow":["*"]}},"keys":{%s,%s}}`
	someChanges  = `{"base":%d,"serial":%d,"epoch":1,"number":3,"gates":2,"clients":{%s},"keys":{%s}}`
)

func keyEntry(id, client string, revoked int) string {
	return fmt.Sprintf(`"%s":{"client":"%s","hash":"%s","expires":0,"revoked":%d,"grant":"a.b"}`, id, client, someHex, revoked)
}

// changing is a store whose clients.json, serial 5, counts together with its changes.
func changing(t *testing.T) *store {
	t.Helper()
	s := freshStore(t)
	put(t, s, "services.json", fmt.Sprintf(goodServices, 1))
	put(t, s, "secrets.json", fmt.Sprintf(goodSecrets, someHex))
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 0, 0, "", ""))
	put(t, s, "clients.json", fmt.Sprintf(wholeClients, 5, keyEntry("k1", "dev", 0), keyEntry("k2", "ci", 0)))
	return s
}

func TestAChangeTakesThePlaceOfWhatTheWholeSays(t *testing.T) {
	s := changing(t)
	before := s.current().clients
	*before.key("k1").used = 42
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 5, 6, `"ci":null`, keyEntry("k1", "dev", 7)+","+keyEntry("k3", "dev", 0)))
	after := s.current().clients
	if after.Serial != 6 || after.gates != 2 || after.key("k1").Revoked != 7 || after.key("k3") == nil || after.client("ci") != nil {
		t.Fatalf("%+v", after)
	}
	if after.key("k2") != before.key("k2") || after.client("dev") != before.client("dev") || *after.key("k1").used != 42 {
		t.Error("what has not changed was built anew, or a last use is forgotten")
	}
	if len(after.held()) != 3 {
		t.Errorf("%d keys are held", len(after.held()))
	}
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 5, 7, "", keyEntry("k1", "dev", 7)))
	if again := s.current().clients; again.key("k1") != after.key("k1") || again.key("k3") != nil || again.client("ci") == nil {
		t.Error("the changes are not those since the whole was written")
	}
}

func TestAWholeThatWasWrittenAfterTheChangesHoldsThem(t *testing.T) {
	s := changing(t)
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 5, 6, "", keyEntry("k1", "dev", 7)))
	put(t, s, "clients.json", fmt.Sprintf(wholeClients, 7, keyEntry("k1", "dev", 7), keyEntry("k2", "ci", 9)))
	if now := s.current().clients; now.Serial != 7 || now.key("k1").Revoked != 7 || now.key("k2").Revoked != 9 {
		t.Errorf("%+v", now)
	}
}

func TestChangesThatComeBeforeTheirWholeWaitForIt(t *testing.T) {
	s := changing(t)
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 8, 9, "", keyEntry("k1", "dev", 7)))
	wantProblem(t, s.clients.problems, "builds on serial 8")
	if now := s.current().clients; now.Serial != 5 {
		t.Errorf("serial %d in force", now.Serial)
	}
	put(t, s, "clients.json", fmt.Sprintf(wholeClients, 8, keyEntry("k1", "dev", 0), keyEntry("k2", "ci", 0)))
	if now := s.current().clients; now.Serial != 9 || now.key("k1").Revoked != 7 || len(s.clients.problems) != 0 {
		t.Errorf("%+v %v", now, s.clients.problems)
	}
}

func TestWithoutItsChangesAWholeIsNoTable(t *testing.T) {
	for what, content := range map[string]string{"missing": "", "spoilt": "{", "of an older whole": fmt.Sprintf(someChanges, 9, 9, "", "")} {
		s := freshStore(t)
		if content != "" {
			put(t, s, "clients-changes.json", content)
		}
		put(t, s, "clients.json", fmt.Sprintf(wholeClients, 5, keyEntry("k1", "dev", 0), keyEntry("k2", "ci", 0)))
		if s.current().clients != nil {
			t.Errorf("%s: a table that lacks revocations is in force", what)
		}
		wantProblem(t, s.clients.problems, "clients-changes.json")
		put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 5, 6, "", keyEntry("k1", "dev", 7)))
		if now := s.current().clients; now == nil || now.key("k1").Revoked != 7 {
			t.Errorf("%s: not mended: %v", what, s.clients.problems)
		}
	}
}

func TestSpoiltChangesLeaveTheLastGoodInForce(t *testing.T) {
	s := changing(t)
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 5, 6, "", keyEntry("k1", "dev", 7)))
	for _, content := range []string{"{", "[]", `{"base":5,"serial":7}`} {
		put(t, s, "clients-changes.json", content)
		wantProblem(t, s.clients.problems, "the last good one stays in force")
	}
	if err := os.Remove(s.changes.path); err != nil {
		t.Fatal(err)
	}
	s.turn()
	wantProblem(t, s.clients.problems, "no such file")
	if now := s.current().clients; now.Serial != 6 || now.key("k1").Revoked != 7 {
		t.Errorf("%+v", now)
	}
}

func TestABadObjectAmongChangesIsRefusedAloneAndNamed(t *testing.T) {
	s := changing(t)
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 5, 6, `"ci":7`, keyEntry("k1", "dev", 7)+`,"k2":{"client":"ci"}`))
	now := s.current().clients
	if now.key("k1").Revoked != 7 || now.client("ci") != nil || now.key("k2") != nil {
		t.Errorf("%+v", now)
	}
	if len(s.clients.problems) != 2 || !strings.Contains(s.clients.problems[0], "clients.ci is refused") {
		t.Errorf("%q", s.clients.problems)
	}
}

func TestAChangeMendsWhatTheWholeHasRefused(t *testing.T) {
	s := changing(t)
	put(t, s, "clients.json", fmt.Sprintf(wholeClients, 6, keyEntry("k1", "dev", 0), `"k2":7`))
	wantProblem(t, s.clients.problems, "keys.k2 is refused")
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 6, 7, "", keyEntry("k1", "dev", 7)))
	wantProblem(t, s.clients.problems, "keys.k2 is refused")
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 6, 8, "", keyEntry("k2", "ci", 7)))
	if len(s.clients.problems) != 0 || s.current().clients.key("k2") == nil {
		t.Errorf("%q", s.clients.problems)
	}
}

func TestATableThatStandsAloneAsksForNoChanges(t *testing.T) {
	s := furnished(t)
	put(t, s, "clients-changes.json", fmt.Sprintf(someChanges, 1, 6, "", keyEntry("k1", "dev", 7)))
	if now := s.current().clients; now.Serial != 1 || now.key("k1").Revoked != 0 {
		t.Errorf("%+v", now)
	}
}
