package policy

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vectors reads a file of tests/vectors, which the Python tests read too.
func vectors(t testing.TB, name string, into interface{}) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

type signedValues struct {
	Secrets json.RawMessage `json:"secrets"`
	Grants  []struct {
		Case, Grant string
		Valid       bool
		Payload     grantPayload
	}
	Handles struct {
		Service string
		Cases   []struct {
			Case, Handle, Client, Instance string
			Valid                          bool
		}
	}
	GateProofs   map[string]string                `json:"gate_proofs"`
	CallerProofs map[string]string                `json:"caller_proofs"`
	APIKeys      []struct{ ID, Key, Hash string } `json:"api_keys"`
}

func readSigned(t *testing.T) (*signedValues, *secretTable) {
	t.Helper()
	values := &signedValues{}
	vectors(t, "signed.json", values)
	secrets, problems, err := decodeSecrets(values.Secrets)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	return values, secrets
}

func TestGrantsAreBelievedByTheirTagOnly(t *testing.T) {
	values, secrets := readSigned(t)
	for _, row := range values.Grants {
		payload, ok := openGrant(row.Grant, secrets.mac)
		if ok != row.Valid {
			t.Errorf("%s: valid is %v, want %v", row.Case, ok, row.Valid)
		}
		if ok && (payload.Client != row.Payload.Client || payload.Key != row.Payload.Key) {
			t.Errorf("%s: read %+v, want %+v", row.Case, payload, row.Payload)
		}
	}
}

func TestHandlesNameAnInstanceToTheirOwnClientOnly(t *testing.T) {
	values, secrets := readSigned(t)
	for _, row := range values.Handles.Cases {
		want := ""
		if row.Valid {
			want = row.Instance
		}
		if got := instanceOf(row.Handle, row.Client, secrets.services[values.Handles.Service]); got != want {
			t.Errorf("%s: instance %q, want %q", row.Case, got, want)
		}
	}
}

func TestProofsAreTheContracts(t *testing.T) {
	values, secrets := readSigned(t)
	for name, proof := range values.GateProofs {
		if secrets.services[name].proof != proof {
			t.Errorf("the gate's proof to %s is %s, want %s", name, secrets.services[name].proof, proof)
		}
	}
	for name, proof := range values.CallerProofs {
		h := http.Header{headerCaller: {name}, headerProof: {proof}}
		if caller, no := provenCaller(h, []string{name}, secrets); no != nil || caller != name {
			t.Errorf("%s is not believed: %v", name, no)
		}
		if _, no := provenCaller(h, []string{"somebody"}, secrets); no == nil {
			t.Errorf("%s is believed where it is no caller", name)
		}
	}
}

func TestKeysAreKnownByTheirHash(t *testing.T) {
	values, _ := readSigned(t)
	for _, row := range values.APIKeys {
		hash, err := hex.DecodeString(row.Hash)
		if err != nil {
			t.Fatal(err)
		}
		table := &clientTable{clients: map[string]*client{"dev": {}}, keys: map[string]*key{row.ID: {id: row.ID, Client: "dev", hash: hash}}}
		if who, no := callerByKey(http.Header{"Authorization": {"Bearer " + row.Key}}, table, 1); no != nil || who.key.id != row.ID {
			t.Errorf("key %s is refused: %+v", row.ID, no)
		}
	}
}

type decisionRow struct {
	Part, Case, Role, Method, Path string
	Headers                        [][2]string
	Expect                         struct {
		Status, Code                              int
		Reason, Says, Client, Service, Scope, Key string
		Grant, Challenge                          string
		Targets, Gone                             []string
	}
}

type decisions struct {
	World      struct{ Services, Clients, Secrets json.RawMessage }
	GateProofs map[string]string `json:"gate_proofs"`
	Grants     map[string]string `json:"-"`
	Draws      []struct {
		Salt, Client string
		Point        float64
	}
	Rows []decisionRow
}

func readDecisions(t testing.TB) (*decisions, *tables) {
	t.Helper()
	file := &decisions{}
	vectors(t, "decisions.json", file)
	services, p1, e1 := decodeServices(file.World.Services, nil)
	clients, p2, e2 := decodeClients(file.World.Clients, nil)
	secrets, p3, e3 := decodeSecrets(file.World.Secrets)
	if e1 != nil || e2 != nil || e3 != nil || len(p1)+len(p2)+len(p3) > 0 {
		t.Fatal(e1, e2, e3, p1, p2, p3)
	}
	file.Grants = map[string]string{}
	for id, k := range clients.keys {
		file.Grants[id] = k.Grant
	}
	return file, &tables{services: services, clients: clients, secrets: secrets, memo: newMemo()}
}

func requestOf(row *decisionRow) *http.Request {
	r, err := http.NewRequest(row.Method, "http://gate"+row.Path, strings.NewReader("{}"))
	if err != nil {
		panic(err)
	}
	for _, pair := range row.Headers {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

const testTime = 1_800_000_000

func TestDecisions(t *testing.T) {
	file, world := readDecisions(t)
	for i := range file.Rows {
		row := &file.Rows[i]
		t.Run(row.Part+"/"+row.Case, func(t *testing.T) {
			config := CreateConfig()
			config.Role = row.Role
			if row.Role == roleForeign {
				config.Resource = "https://mcp.example"
			}
			got := &received{}
			g := &gate{next: got, settings: newSettings(config), store: newStore(t.TempDir())}
			g.store.tables = world
			r := requestOf(row)
			view := &request{method: r.Method, path: r.URL.EscapedPath(), host: r.Host, header: r.Header}
			d, no := decide(g.settings, view, world, testTime)
			if row.Expect.Status != 0 {
				checkRefusal(t, row, no)
				return
			}
			if no != nil || d.reason != row.Expect.Reason {
				t.Fatalf("refused %+v, decided %+v", no, d)
			}
			for _, turn := range []string{"decided", "remembered"} {
				r := requestOf(row)
				g.ServeHTTP(httptest.NewRecorder(), r)
				checkForwarded(t, turn, row, r, file)
			}
			if got.calls != 2 || len(world.memo) == 0 {
				t.Errorf("%d calls went on, %d decisions are remembered", got.calls, len(world.memo))
			}
		})
	}
}

func TestAClientsPointIsTheContracts(t *testing.T) {
	file, _ := readDecisions(t)
	for _, row := range file.Draws {
		if got := pointOf(row.Salt, row.Client); got != row.Point {
			t.Errorf("%q/%q: %v, want %v", row.Salt, row.Client, got, row.Point)
		}
	}
}

type received struct{ calls int }

func (r *received) ServeHTTP(http.ResponseWriter, *http.Request) { r.calls++ }

func checkRefusal(t *testing.T, row *decisionRow, no *refusal) {
	t.Helper()
	if no == nil {
		t.Fatal("not refused")
	}
	want := row.Expect
	if no.status != want.Status || no.code != want.Code || no.reason != want.Reason || no.client != want.Client || no.service != want.Service {
		t.Errorf("got %+v, want %+v", no, want)
	}
	if want.Challenge != "" && no.challenge != want.Challenge {
		t.Errorf("challenge %q, want %q", no.challenge, want.Challenge)
	}
	if !strings.Contains(no.message, want.Says) {
		t.Errorf("message %q does not say %q", no.message, want.Says)
	}
}

func checkForwarded(t *testing.T, turn string, row *decisionRow, r *http.Request, file *decisions) {
	t.Helper()
	want := row.Expect
	if r.RequestURI != "/mcp" || r.URL.RequestURI() != "/mcp" {
		t.Errorf("%s: goes to %s", turn, r.RequestURI)
	}
	target := strings.Join(r.Header[headerRoute], ",")
	if !contains(want.Targets, target) {
		t.Errorf("%s: target %q, want one of %v", turn, target, want.Targets)
	}
	if id := r.Header[headerCall]; (len(id) == 1) != strings.Contains(target, mirrorSign) {
		t.Errorf("%s: the id of a call to %q is %v", turn, target, id)
	}
	grant := want.Grant
	if want.Key != "" {
		grant = file.Grants[want.Key]
	}
	ours := map[string]string{
		headerClient: want.Client, headerService: want.Service, headerScope: want.Scope,
		headerGate: file.GateProofs[want.Service], headerGrant: grant,
	}
	for name, value := range ours {
		if got := strings.Join(r.Header[name], ","); got != value {
			t.Errorf("%s: %s is %q, want %q", turn, name, got, value)
		}
	}
	for _, name := range append(want.Gone, "authorization", "connection") {
		if r.Header.Get(name) != "" {
			t.Errorf("%s: %s travels on", turn, name)
		}
	}
}
