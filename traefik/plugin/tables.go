package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
)

// The three tables, as docs/contracts.md describes the files. They are built and checked before they are published
// and never changed afterwards, but for the counters behind the two pointers (turn, used), which outlive a table.

// stamp says which state of the world a table is.
type stamp struct {
	Serial int64 `json:"serial"`
	Epoch  int64 `json:"epoch"`
	Number int64 `json:"number"`
}

type service struct {
	Stable    string            `json:"stable"`
	Lanes     []lane            `json:"lanes"`
	Split     string            `json:"split"`
	Salt      string            `json:"salt"`
	Rules     []*rule           `json:"rules"`
	Instances map[string]string `json:"instances"`

	// The interpreter shows unexported fields to encoding/json under other names: hence the tags.
	name   string  `json:"-"`
	shares *shares `json:"-"`
}

type client struct {
	Allow  []string `json:"allow"`
	Cohort string   `json:"cohort"`
	Limits []*limit `json:"limits"`
	OAuth  []string `json:"oauth"`

	raw      []byte    `json:"-"` // as the file holds it
	patterns []pattern `json:"-"`
}

type key struct {
	Client  string `json:"client"`
	Hash    string `json:"hash"`
	Expires int64  `json:"expires"`
	Revoked int64  `json:"revoked"`
	Grant   string `json:"grant"`

	raw  []byte `json:"-"` // as the file holds it
	id   string `json:"-"`
	hash []byte `json:"-"`
	used *int64 `json:"-"`
}

type serviceTable struct {
	stamp
	services map[string]*service
}

type clientTable struct {
	stamp
	gates   int64 // over how many gates limits are divided
	clients map[string]*client
	keys    map[string]*key
	changes bool // it counts together with clients-changes.json
	// What these take the place of, object by object, nil where they are all; see changes.go. Not a table by a pointer:
	// the interpreter takes types that name themselves for one another.
	wholeClients map[string]*client
	wholeKeys    map[string]*key
	// which objects of the whole do not count any more, replaced or gone
	overClients map[string]bool
	overKeys    map[string]bool
}

// serviceSecret holds a service's keys, current first, and the proof the gate shows it.
type serviceSecret struct {
	keys  [][]byte
	proof string
}

type secretTable struct {
	mac      [][]byte
	services map[string]*serviceSecret
	sha256   string // of the file: by it whoever renews keys knows that they are in use
}

// tables is one view of the world; each part is nil until its file was read once.
type tables struct {
	services *serviceTable
	clients  *clientTable
	secrets  *secretTable
	memo     map[[sha256.Size]byte]*decision // by digest; the one part that changes, under the store's lock
}

const grantLimit = 4096

func (t *tables) gatesOf() int64 {
	if t.clients == nil {
		return 1
	}
	return t.clients.gates
}

func decodeServices(raw []byte, old *serviceTable) (*serviceTable, []string, error) {
	var file struct {
		Serial   int64                      `json:"serial"`
		Epoch    int64                      `json:"epoch"`
		Number   int64                      `json:"number"`
		Services map[string]json.RawMessage `json:"services"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, nil, err
	}
	if file.Services == nil {
		return nil, nil, errors.New("it holds no services object")
	}
	table := &serviceTable{stamp{file.Serial, file.Epoch, file.Number}, map[string]*service{}}
	problems := eachObject("services", file.Services, func(name string, value []byte) error {
		item, err := decodeService(name, value)
		if err == nil {
			if old != nil && old.services[name] != nil {
				item.keepTurns(old.services[name])
			}
			table.services[name] = item
		}
		return err
	})
	return table, problems, nil
}

func decodeService(name string, raw []byte) (*service, error) {
	item := &service{name: name}
	if err := json.Unmarshal(raw, item); err != nil {
		return nil, err
	}
	if !isService(name) {
		return nil, errors.New("a service is named [a-z][a-z0-9-]{0,31}")
	}
	if item.Split != "" && item.Split != splitRequest && item.Split != splitClient {
		return nil, fmt.Errorf("split %q is unknown; request and client are known", clip(item.Split))
	}
	if item.Stable != "" && !isTarget(item.Stable, name) {
		return nil, fmt.Errorf("stable %q is no target of it", item.Stable)
	}
	total, err := weigh(item.Lanes, name, isTarget)
	if err != nil {
		return nil, err
	}
	item.shares = newShares(item.Lanes, item.Stable, total)
	if err := decodeRules(item, name); err != nil {
		return nil, err
	}
	for id, target := range item.Instances {
		if !isInstance(id) || !isTarget(target, name) {
			return nil, fmt.Errorf("instance %q → %q: wants 6 hex digits and a target of it", id, target)
		}
	}
	return item, nil
}

func decodeClients(raw []byte, old *clientTable) (*clientTable, []string, error) {
	var file struct {
		Serial  int64                      `json:"serial"`
		Epoch   int64                      `json:"epoch"`
		Number  int64                      `json:"number"`
		Gates   int64                      `json:"gates"`
		Changes bool                       `json:"changes"`
		Clients map[string]json.RawMessage `json:"clients"`
		Keys    map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, nil, err
	}
	if file.Clients == nil || file.Keys == nil {
		return nil, nil, errors.New("it holds no clients or no keys object")
	}
	table := newClientTable(stamp{file.Serial, file.Epoch, file.Number}, file.Gates)
	table.changes = file.Changes
	problems := table.fill(file.Clients, file.Keys, old)
	return table, problems, nil
}

func newClientTable(at stamp, gates int64) *clientTable {
	return &clientTable{stamp: at, gates: gates, clients: map[string]*client{}, keys: map[string]*key{}}
}

// fill builds what is not written as it was, and names what is refused.
func (t *clientTable) fill(clients, keys map[string]json.RawMessage, old *clientTable) []string {
	if old != nil {
		clients = t.keepClients(clients, old)
		keys = t.keepKeys(keys, old)
	}
	problems := eachObject("clients", clients, func(id string, value []byte) error {
		item, err := decodeClient(id, value)
		if err == nil {
			t.clients[id] = item
		}
		return err
	})
	more := eachObject("keys", keys, func(id string, value []byte) error {
		item, err := decodeKey(id, value)
		if err == nil {
			item.used = new(int64)
			if old != nil && old.key(id) != nil {
				item.used = old.key(id).used
			}
			t.keys[id] = item
		}
		return err
	})
	problems = append(problems, more...)
	return problems
}

// keepClients takes over what is written as it was, and returns the rest. Decoding is interpreted: ten thousand clients
// and keys take seconds, comparing them does not, and a revocation waits for it. Objects never change once built.
func (t *clientTable) keepClients(objects map[string]json.RawMessage, old *clientTable) map[string]json.RawMessage {
	rest := map[string]json.RawMessage{}
	for id, raw := range objects {
		was := old.client(id)
		if was != nil && bytes.Equal(was.raw, raw) {
			t.clients[id] = was
		} else {
			rest[id] = raw
		}
	}
	return rest
}

func (t *clientTable) keepKeys(objects map[string]json.RawMessage, old *clientTable) map[string]json.RawMessage {
	rest := map[string]json.RawMessage{}
	for id, raw := range objects {
		was := old.key(id)
		if was != nil && bytes.Equal(was.raw, raw) {
			t.keys[id] = was
		} else {
			rest[id] = raw
		}
	}
	return rest
}

func decodeClient(id string, raw []byte) (*client, error) {
	item := &client{}
	if err := json.Unmarshal(raw, item); err != nil {
		return nil, err
	}
	if !isID(id) {
		return nil, errors.New("a client is named [a-z0-9][a-z0-9-]{0,62}")
	}
	for _, glob := range item.Allow {
		item.patterns = append(item.patterns, newPattern(glob))
	}
	for _, l := range item.Limits {
		if err := l.check(); err != nil {
			return nil, err
		}
	}
	item.raw = raw
	return item, nil
}

func decodeKey(id string, raw []byte) (*key, error) {
	item := &key{id: id}
	if err := json.Unmarshal(raw, item); err != nil {
		return nil, err
	}
	hash, err := hex.DecodeString(item.Hash)
	if err != nil || len(hash) != 32 {
		return nil, errors.New("hash is no sha256 in hex")
	}
	if !isID(id) || !isID(item.Client) {
		return nil, errors.New("a key and its client are named [a-z0-9][a-z0-9-]{0,62}")
	}
	if item.Grant == "" || len(item.Grant) > grantLimit || !only(item.Grant, alnum+"-_.") {
		return nil, fmt.Errorf("grant is missing, longer than %d bytes, or not two base64url parts", grantLimit)
	}
	item.hash = hash
	item.raw = raw
	return item, nil
}

func decodeSecrets(raw []byte) (*secretTable, []string, error) {
	var file struct {
		Mac      []string                   `json:"mac"`
		Services map[string]json.RawMessage `json:"services"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, nil, err
	}
	mac, err := decodeSecretKeys(file.Mac)
	if err != nil {
		return nil, nil, fmt.Errorf("mac: %w", err)
	}
	if file.Services == nil {
		return nil, nil, errors.New("it holds no services object")
	}
	sum := sha256.Sum256(raw)
	table := &secretTable{mac: mac, services: map[string]*serviceSecret{}, sha256: hex.EncodeToString(sum[:])}
	problems := eachObject("services", file.Services, func(name string, value []byte) error {
		var texts []string
		if err := json.Unmarshal(value, &texts); err != nil {
			return errors.New("wants a list of keys in hex")
		}
		keys, err := decodeSecretKeys(texts)
		if err == nil {
			table.services[name] = &serviceSecret{keys, hex.EncodeToString(sign(keys[0], "gate"))}
		}
		return err
	})
	return table, problems, nil
}

// decodeSecretKeys names no value in its errors: problems are readable on the private entrypoint.
func decodeSecretKeys(texts []string) ([][]byte, error) {
	keys := [][]byte{}
	for _, text := range texts {
		raw, err := hex.DecodeString(text)
		if err != nil || len(raw) != 32 {
			return nil, fmt.Errorf("key %d of %d is not 32 bytes in hex", len(keys)+1, len(texts))
		}
		keys = append(keys, raw)
	}
	if len(keys) == 0 {
		return nil, errors.New("no key is given")
	}
	return keys, nil
}

// eachObject builds object by object. A bad one is refused and named, the others go on: a revocation must never
// hang on somebody else's entry.
func eachObject(kind string, objects map[string]json.RawMessage, build func(string, []byte) error) []string {
	problems := []string{}
	for id, raw := range objects {
		if err := guarded(func() error { return build(id, raw) }); err != nil {
			problems = append(problems, fmt.Sprintf("%s.%s is refused: %v", kind, clip(id), err))
		}
	}
	sort.Strings(problems)
	return problems
}

// guarded turns a panic into an error: one that escapes the watching goroutine would end Traefik.
func guarded(run func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	return run()
}
