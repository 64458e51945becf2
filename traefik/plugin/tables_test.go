package policy

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	goodServices = `{"serial":%d,"epoch":1,"number":2,"services":{"alpha":{"stable":"alpha_1","lanes":[{"target":"alpha_1","weight_pct":100}],"split":"request","instances":{}}}}`
	goodClients  = `{"serial":%d,"epoch":1,"number":2,"clients":{"dev":{"allow":["*"],"cohort":""}},"keys":{"k1":{"client":"dev","hash":"%s","expires":0,"revoked":0,"grant":"a.b"}}}`
	goodSecrets  = `{"mac":["%[1]s"],"services":{"alpha":["%[1]s"]}}`
)

var someHex = strings.Repeat("0a", 32)

// put replaces a file as the agent does.
func put(t *testing.T, s *store, name, content string) {
	t.Helper()
	path := filepath.Join(filepath.Dir(s.services.path), name)
	spare := path + ".tmp"
	if err := os.WriteFile(spare, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(spare, path); err != nil {
		t.Fatal(err)
	}
	s.turn()
}

func freshStore(t *testing.T) *store {
	t.Helper()
	s := newStore(t.TempDir())
	s.turn()
	return s
}

func furnished(t *testing.T) *store {
	t.Helper()
	s := freshStore(t)
	put(t, s, "services.json", fmt.Sprintf(goodServices, 1))
	put(t, s, "clients.json", fmt.Sprintf(goodClients, 1, someHex))
	put(t, s, "secrets.json", fmt.Sprintf(goodSecrets, someHex))
	return s
}

func wantProblem(t *testing.T, problems []string, says string) {
	t.Helper()
	if len(problems) != 1 || !strings.Contains(problems[0], says) {
		t.Errorf("problems %q, want one that says %q", problems, says)
	}
}

func TestABadFileLeavesTheLastGoodInForce(t *testing.T) {
	for _, content := range []string{"", "{", "[]", "null", `{"serial":9}`, `{"serial":9,"services":null}`, fmt.Sprintf(goodServices, 9)[:80]} {
		s := furnished(t)
		put(t, s, "services.json", content)
		if got := s.current().services; got.Serial != 1 || got.services["alpha"] == nil {
			t.Errorf("%q: serial %d in force", content, got.Serial)
		}
		wantProblem(t, s.services.problems, "the last good one stays in force")
		s.turn()
		wantProblem(t, s.services.problems, "stays in force")
		put(t, s, "services.json", fmt.Sprintf(goodServices, 2))
		if s.current().services.Serial != 2 || len(s.services.problems) != 0 {
			t.Errorf("%q: not mended: %v", content, s.services.problems)
		}
	}
}

func TestAMissingFileLeavesTheLastGoodInForce(t *testing.T) {
	s := furnished(t)
	if err := os.Remove(s.clients.path); err != nil {
		t.Fatal(err)
	}
	s.turn()
	if s.current().clients == nil {
		t.Error("clients are gone")
	}
	wantProblem(t, s.clients.problems, "no such file")
}

func TestWithoutAGoodFileThereIsNoTable(t *testing.T) {
	s := freshStore(t)
	wantProblem(t, s.clients.problems, "none is in force")
	put(t, s, "clients.json", `{"serial":1,"cli`)
	if s.current().clients != nil {
		t.Error("a truncated file is in force")
	}
}

func TestAnOlderFileIsAChangeToo(t *testing.T) {
	s := furnished(t)
	put(t, s, "services.json", fmt.Sprintf(goodServices, 7))
	restored := time.Now().Add(-time.Hour)
	spare := s.services.path + ".tmp"
	if err := os.WriteFile(spare, []byte(fmt.Sprintf(goodServices, 3)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(spare, restored, restored); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(spare, s.services.path); err != nil {
		t.Fatal(err)
	}
	s.turn()
	if got := s.current().services.Serial; got != 3 {
		t.Errorf("serial %d in force", got)
	}
}

func TestAChangeInPlaceIsSeen(t *testing.T) {
	s := furnished(t)
	later := time.Now().Add(time.Second)
	if err := os.WriteFile(s.services.path, []byte(fmt.Sprintf(goodServices, 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(s.services.path, later, later); err != nil {
		t.Fatal(err)
	}
	s.turn()
	if got := s.current().services.Serial; got != 8 {
		t.Errorf("serial %d in force", got)
	}
}

// A revocation must never hang on somebody else's entry.
func TestABadObjectIsRefusedAloneAndNamed(t *testing.T) {
	good := `"allow":["*"],"cohort":""`
	key := fmt.Sprintf(`"hash":"%s","expires":0,"revoked":5,"grant":"a.b"`, someHex)
	for _, row := range []struct{ clients, keys, says string }{
		{`"bad":7`, ``, "clients.bad"}, {`"bad":{"allow":"*"}`, ``, "clients.bad"}, {`"Bad":{` + good + `}`, ``, "clients.Bad"},
		{``, `"k2":{"client":"dev","hash":"zz","grant":"a.b"}`, "keys.k2"}, {``, `"k2":"x"`, "keys.k2"},
		{``, fmt.Sprintf(`"k2":{"client":"dev","hash":"%s","grant":"a\nb"}`, someHex), "keys.k2"},
		{``, fmt.Sprintf(`"k2":{"client":"dev","hash":"%s"}`, someHex), "keys.k2"},
		{``, fmt.Sprintf(`"k2":{"client":"dev","hash":"%s","grant":"%s"}`, someHex, strings.Repeat("a", 4097)), "keys.k2"},
		{``, fmt.Sprintf(`"k2":{"client":"dev","hash":"%s","revoked":"now","grant":"a.b"}`, someHex), "keys.k2"},
	} {
		s := furnished(t)
		clients := strings.Trim(`"dev":{`+good+`},`+row.clients, ",")
		keys := strings.Trim(`"k1":{"client":"dev",`+key+`},`+row.keys, ",")
		put(t, s, "clients.json", fmt.Sprintf(`{"serial":2,"epoch":1,"number":3,"clients":{%s},"keys":{%s}}`, clients, keys))
		table := s.current().clients
		if table.Serial != 2 || table.keys["k1"].Revoked != 5 || table.clients["bad"] != nil || table.keys["k2"] != nil {
			t.Errorf("%+v: %+v", row, table)
		}
		wantProblem(t, s.clients.problems, row.says)
	}
}

func TestABadServiceIsRefusedAloneAndNamed(t *testing.T) {
	for _, bad := range []string{
		`7`, `{"stable":"beta_1"}`, `{"stable":"bad_1","split":"luck"}`, `{"stable":"bad_1","instances":{"xyz":"bad_1_aaaaaa"}}`,
		`{"stable":"bad_1","instances":{"aaaaaa":"alpha_1_aaaaaa"}}`, `{"stable":"bad_1","lanes":[{"target":"alpha_1","weight_pct":1}]}`,
		`{"stable":"bad_1","lanes":[{"target":"bad_1","weight_pct":-1}]}`, `{"stable":"bad_1","lanes":[{"target":"bad_1","weight_pct":0}]}`,
		`{"stable":"bad_1","lanes":[{"target":"bad_1","weight_pct":101}]}`, "{\"stable\":\"bad_1`)\"}",
		`{"stable":"bad_1","lanes":[{"target":"bad_1~bad_2","weight_pct":100}]}`,
		`{"stable":"bad_1","rules":[null]}`, `{"stable":"bad_1","rules":[{"name":"Bad"}]}`, `{"stable":"bad_1","rules":[{"name":"r"}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","cohort":"No","lanes":[{"target":"bad_1","weight_pct":100}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","tools":"x","lanes":[{"target":"bad_1","weight_pct":100}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","lanes":[{"target":"alpha_1","weight_pct":100}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","lanes":[{"target":"bad_1","weight_pct":0}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","lanes":[{"target":"bad_1~alpha_1","weight_pct":100}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","lanes":[{"target":"bad_1~bad_1","weight_pct":100}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","lanes":[{"target":"bad_1~bad_2_aaaaaa","weight_pct":100}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","lanes":[{"target":"bad_1~bad_2~bad_3","weight_pct":100}]}]}`,
		`{"stable":"bad_1","rules":[{"name":"r","lanes":[{"target":"bad_1","weight_pct":100}]},{"name":"r","lanes":[{"target":"bad_1","weight_pct":100}]}]}`,
	} {
		s := furnished(t)
		content := strings.Replace(fmt.Sprintf(goodServices, 2), `"services":{`, `"services":{"bad":`+bad+`,`, 1)
		put(t, s, "services.json", content)
		if table := s.current().services; table.Serial != 2 || table.services["bad"] != nil || table.services["alpha"] == nil {
			t.Errorf("%s: %+v", bad, table)
		}
		wantProblem(t, s.services.problems, "services.bad is refused")
	}
}

func TestTheStateSaysWhichSecretsAreInForce(t *testing.T) {
	s := furnished(t)
	good, _ := os.ReadFile(s.secrets.path)
	for range 2 {
		said := s.state()["secrets"].(map[string]interface{})["sha256"]
		if want := fmt.Sprintf("%x", sha256.Sum256(good)); said != want {
			t.Errorf("the file in force is %q, want %q", said, want)
		}
		put(t, s, "secrets.json", "{")
	}
}

func TestSecretsAreNeverNamedInProblems(t *testing.T) {
	s := furnished(t)
	secret := "5ec4e7" + strings.Repeat("0", 57)
	put(t, s, "secrets.json", fmt.Sprintf(`{"mac":["%s"],"services":{"alpha":["%s"]}}`, secret, secret))
	wantProblem(t, s.secrets.problems, "mac: key 1 of 1 is not 32 bytes in hex")
	put(t, s, "secrets.json", fmt.Sprintf(`{"mac":["%s"],"services":{"alpha":["%s"]}}`, someHex, secret))
	wantProblem(t, s.secrets.problems, "services.alpha is refused")
	if said := fmt.Sprint(s.state()); strings.Contains(said, secret) || strings.Contains(said, someHex) {
		t.Error("a secret stands in the state")
	}
}

func TestAPanicBecomesAProblem(t *testing.T) {
	s := furnished(t)
	s.services.seen = nil
	s.take(s.services, func([]byte, *tables) ([]string, error) { panic("boom") })
	wantProblem(t, s.services.problems, "panic: boom")
	problems := eachObject("services", map[string]json.RawMessage{"a": nil, "b": nil}, func(name string, _ []byte) error {
		if name == "a" {
			panic("boom")
		}
		return nil
	})
	wantProblem(t, problems, "services.a is refused: panic: boom")
}

func TestCountersOutliveATable(t *testing.T) {
	s := furnished(t)
	*s.current().services.services["alpha"].shares.turn = 77
	*s.current().clients.keys["k1"].used = 42
	walked := *s.current().services.services["alpha"].shares.turn
	put(t, s, "services.json", fmt.Sprintf(goodServices, 2))
	put(t, s, "clients.json", fmt.Sprintf(goodClients, 2, someHex))
	if got := *s.current().services.services["alpha"].shares.turn; got != walked {
		t.Errorf("the walk began anew: %d", got)
	}
	if got := *s.current().clients.keys["k1"].used; got != 42 {
		t.Errorf("last use forgotten: %d", got)
	}
}

func TestWhatIsWrittenAsItWasIsNotBuiltAnew(t *testing.T) {
	s := furnished(t)
	before := s.current().clients
	put(t, s, "clients.json", fmt.Sprintf(goodClients, 2, someHex))
	same := s.current().clients
	if same.Serial != 2 || same.keys["k1"] != before.keys["k1"] || same.clients["dev"] != before.clients["dev"] {
		t.Error("an unchanged object was built anew")
	}
	revoked := strings.Replace(fmt.Sprintf(goodClients, 3, someHex), `"revoked":0`, `"revoked":5`, 1)
	put(t, s, "clients.json", strings.Replace(revoked, `"*"`, `"alpha_*"`, 1))
	after := s.current().clients
	if after.keys["k1"].Revoked != 5 || covered(after.clients["dev"].patterns, "beta_read") {
		t.Errorf("the change is not in force: %+v %+v", after.keys["k1"], after.clients["dev"])
	}
	put(t, s, "clients.json", `{"serial":4,"epoch":1,"number":2,"clients":{},"keys":{}}`)
	if gone := s.current().clients; len(gone.keys) != 0 || len(gone.clients) != 0 {
		t.Error("what was taken away is still there")
	}
}

func TestAFolderHasOneStoreHoweverOftenItIsOpened(t *testing.T) {
	folder := t.TempDir()
	if openStore(folder) != openStore(folder) {
		t.Error("two stores")
	}
}

func TestNewRefusesABadConfiguration(t *testing.T) {
	for _, config := range []*Config{{}, {Role: "both", Tables: "/x"}, {Role: rolePublic}} {
		if _, err := New(nil, nil, config, "m"); err == nil {
			t.Errorf("%+v is accepted", config)
		}
	}
}

func TestThePrivateRoleReportsWhatIsInForce(t *testing.T) {
	s := furnished(t)
	g := &gate{settings: &settings{role: rolePrivate}, store: s}
	k := s.current().clients.keys["k1"]
	d := &decision{client: "dev", label: "dev", service: "alpha", targets: []string{"alpha_1"}, reason: "lane", key: k}
	d.class, d.era, d.tool = classKey, eraModern, "alpha_do"
	d.prepare(s.counts)
	*d.only.count, *d.used, *k.used = 1, 1, 7_000_000_000
	s.counts.refused(refuse(http.StatusUnauthorized, "no_key", "x"))
	for path, wants := range map[string][]string{
		"/tekup/state": {`"services":{"epoch":1,"number":2,"problems":[],"serial":1}`, `"clients":{"epoch":1,"number":2,"problems":[],"serial":1}`},
		"/metrics": {
			`tekup_gate_decisions_total{class="key",era="modern",service="alpha",tool="alpha_do",target="alpha_1",reason=""} 1`,
			`tekup_gate_decisions_total{class="none",era="none",service="",tool="",target="",reason="no_key"} 1`,
			`tekup_gate_client_calls_total{client="dev",service="alpha",outcome="passed"} 1`,
			`tekup_gate_client_calls_total{client="",service="",outcome="refused"} 1`,
			`tekup_gate_table_age_seconds{table="clients"}`,
			`tekup_gate_key_last_used_seconds{key="k1",client="dev"} 7`,
		},
	} {
		w := httptest.NewRecorder()
		g.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		for _, want := range wants {
			if !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s lacks %s:\n%s", path, want, w.Body.String())
			}
		}
	}
}

func TestTheMetricIsBounded(t *testing.T) {
	c := newCounters()
	for i := 0; i < seriesLimit+100; i++ {
		c.counter(fmt.Sprint(i), "lane")
	}
	if len(c.decisions) > seriesLimit+1 {
		t.Errorf("%d series", len(c.decisions))
	}
}

func TestServicesAreListedAndThoseThatNobodyServesHaveNoStable(t *testing.T) {
	_, world := readDecisions(t)
	said, err := json.Marshal(listServices(world))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"services":{"alpha":{"stable":"alpha_1-0-0"},"beta":{"stable":"beta_2-0"},"delta":{"stable":"delta_1-0-0"},"down":{"stable":""},"eps":{"stable":"eps_1"},"unproven":{"stable":"unproven_1"}}}`
	if string(said) != want {
		t.Errorf("got %s", said)
	}
}

func TestARefusalIsAJSONRPCError(t *testing.T) {
	w := httptest.NewRecorder()
	refuseVersion(strings.Repeat("x", 300), supportedVersions).write(w)
	var body struct {
		JSONRPC string
		ID      interface{}
		Error   struct {
			Code int
			Data struct {
				Supported []string
				Requested string
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	if w.Code != 400 || body.JSONRPC != "2.0" || body.ID != nil || body.Error.Code != -32022 || len(body.Error.Data.Supported) != 5 || len(body.Error.Data.Requested) > 110 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for status, header := range map[int]string{401: "WWW-Authenticate", 405: "Allow", 503: "Retry-After"} {
		w := httptest.NewRecorder()
		refuse(status, "x", "x").write(w)
		if w.Header().Get(header) == "" {
			t.Errorf("%d lacks %s", status, header)
		}
	}
}

func TestARefusalCarriesTheIDWhereOneCanBeRead(t *testing.T) {
	long := strings.Repeat("x", maxRefusedBody)
	for body, want := range map[string]string{
		`{"jsonrpc":"2.0","id":7,"method":"x"}`:     `7`,
		`{"method":"x","params":{"id":1},"id":"a"}`: `"a"`,
		`{"id":-1}`:                        `-1`,
		`{"id":null}`:                      `null`,
		`{"id":{"a":1}}`:                   `null`,
		`{"id":true}`:                      `null`,
		`{"id":"` + long[:300] + `"}`:      `null`,
		`{"id":7,"params":"` + long + `"}`: `null`,
		`{"method":"x"}`:                   `null`,
		`[{"id":7}]`:                       `null`,
		`{"id":7`:                          `null`,
		``:                                 `null`,
	} {
		r := httptest.NewRequest("POST", "/mcp", strings.NewReader(body))
		no := refuse(http.StatusForbidden, "right", "no")
		no.id = idOf(r)
		w := httptest.NewRecorder()
		no.write(w)
		var said struct{ ID json.RawMessage }
		if err := json.Unmarshal(w.Body.Bytes(), &said); err != nil || string(said.ID) != want {
			t.Errorf("%.60s: got %s, want %s", body, said.ID, want)
		}
	}
}
