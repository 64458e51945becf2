package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// clients.json of ten thousand clients has 5 MB: to read it anew for each key costs a quarter of a second of a core. So
// the agent leaves a large one alone and writes beside it, into clients-changes.json, the objects that have changed
// since (docs/contracts.md). Lookups ask these first; nothing is copied, for that would be interpreted, too.

// changesFile is clients-changes.json. An object that is null is gone.
type changesFile struct {
	Base    int64                      `json:"base"`
	Serial  int64                      `json:"serial"`
	Epoch   int64                      `json:"epoch"`
	Number  int64                      `json:"number"`
	Gates   int64                      `json:"gates"`
	Clients map[string]json.RawMessage `json:"clients"`
	Keys    map[string]json.RawMessage `json:"keys"`
}

// What is gone, and what is refused, must not be found in the whole: it stands in a map of its own.
func (t *clientTable) client(id string) *client {
	found := t.clients[id]
	if found != nil || t.overClients[id] {
		return found
	}
	return t.wholeClients[id]
}

func (t *clientTable) key(id string) *key {
	found := t.keys[id]
	if found != nil || t.overKeys[id] {
		return found
	}
	return t.wholeKeys[id]
}

// held returns all keys in force.
func (t *clientTable) held() []*key {
	all := []*key{}
	for _, k := range t.keys {
		all = append(all, k)
	}
	for id, k := range t.wholeKeys {
		if !t.overKeys[id] {
			all = append(all, k)
		}
	}
	return all
}

// stillRefused are problems of objects of the whole that no change has taken the place of.
func (t *clientTable) stillRefused(problems []string) []string {
	still := []string{}
	for _, problem := range problems {
		name := strings.SplitN(problem, " is refused", 2)[0]
		over := t.overClients[strings.TrimPrefix(name, "clients.")] || t.overKeys[strings.TrimPrefix(name, "keys.")]
		if !over {
			still = append(still, problem)
		}
	}
	return still
}

// takeClients looks at clients.json and, where that counts together with it, at clients-changes.json.
func (s *store) takeClients() {
	next := tables{s.tables.services, s.tables.clients, s.tables.secrets, newMemo()}
	news := false
	var problems []string
	err := guarded(func() error {
		var err error
		news, err = s.readClients()
		if err != nil || !news {
			return err
		}
		table, refused, err := s.whole.with(s.changed, s.tables.clients)
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(s.changes.path), err)
		}
		next.clients = table
		problems = table.stillRefused(s.refused)
		problems = append(problems, refused...)
		return nil
	})
	if err == nil && !news {
		return
	}
	at := time.Time{}
	if s.clients.seen != nil {
		at = s.clients.seen.ModTime()
	}
	if s.changes.seen != nil && s.changes.seen.ModTime().After(at) {
		at = s.changes.seen.ModTime()
	}
	s.publish(s.clients, &next, at, problems, err)
}

// readClients keeps what the two files hold, whether they fit or not: each is read once, and may come before the other.
func (s *store) readClients() (bool, error) {
	raw, err := s.clients.changed()
	if err != nil {
		return false, err
	}
	if raw != nil {
		whole, refused, err := decodeClients(raw, s.tables.clients)
		if err != nil {
			return false, err
		}
		s.whole = whole
		s.refused = refused
	}
	if s.whole == nil || !s.whole.changes {
		return raw != nil, nil
	}
	changed, err := s.changes.changed()
	if err != nil {
		return false, err
	}
	if changed != nil {
		s.changed = changed
	}
	return raw != nil || changed != nil, nil
}

// with returns the table with what has changed since it was written.
func (t *clientTable) with(raw []byte, old *clientTable) (*clientTable, []string, error) {
	if !t.changes {
		return t, nil, nil
	}
	var file changesFile
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, nil, err
	}
	if file.Clients == nil || file.Keys == nil {
		return nil, nil, errors.New("it holds no clients or no keys object")
	}
	if file.Base < t.Serial {
		return t, nil, nil // the whole was written after it, and holds all of it
	}
	if file.Base > t.Serial {
		return nil, nil, fmt.Errorf("it builds on serial %d of clients.json, which has %d: an older one was put back", file.Base, t.Serial)
	}
	table := newClientTable(stamp{file.Serial, file.Epoch, file.Number}, file.Gates)
	table.wholeClients = t.clients
	table.wholeKeys = t.keys
	table.overClients = map[string]bool{}
	table.overKeys = map[string]bool{}
	clients := map[string]json.RawMessage{}
	for id, raw := range file.Clients {
		table.overClients[id] = true
		if string(raw) != "null" {
			clients[id] = raw
		}
	}
	keys := map[string]json.RawMessage{}
	for id, raw := range file.Keys {
		table.overKeys[id] = true
		if string(raw) != "null" {
			keys[id] = raw
		}
	}
	problems := table.fill(clients, keys, old)
	return table, problems, nil
}
