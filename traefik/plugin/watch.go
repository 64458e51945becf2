package policy

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pollEvery = 20 * time.Millisecond
	fileLimit = 64 << 20
)

// source is one file and what is known of it.
type source struct {
	path     string
	seen     os.FileInfo // of the last version looked at, good or bad
	good     bool        // a version of it is in force
	since    time.Time   // when that version was written
	problems []string
}

// store holds the tables of one folder. Both entrypoints' roles share it.
type store struct {
	mu       sync.RWMutex
	tables   *tables
	services *source
	clients  *source
	secrets  *source
	counts   *counters
	limited  *counters          // calls that found no room in a limit
	buckets  map[string]*bucket // by caller and limit; under mu
	held     *int64             // bytes of larger bodies in memory
	pruned   time.Time
	// when the agent last knew that the tables are what was decided, in seconds since the epoch
	confirmed *int64
	origin    string  // begins the ids of copied calls; of no other gate and no earlier start
	calls     *uint64 // ends them
}

var (
	storesMu sync.Mutex
	stores   = map[string]*store{}
)

// openStore returns the one store of a folder. Its first caller reads the files before it returns, so that a
// restarted Traefik does not refuse its first calls, and starts the one goroutine that watches.
func openStore(folder string) *store {
	storesMu.Lock()
	defer storesMu.Unlock()
	if s := stores[folder]; s != nil {
		return s
	}
	s := newStore(folder)
	stores[folder] = s
	s.turn()
	go s.watch()
	return s
}

func newStore(folder string) *store {
	return &store{
		tables:    &tables{memo: map[string]*decision{}},
		services:  &source{path: filepath.Join(folder, "services.json")},
		clients:   &source{path: filepath.Join(folder, "clients.json")},
		secrets:   &source{path: filepath.Join(folder, "secrets.json")},
		counts:    newCounters(),
		limited:   newCounters(),
		buckets:   map[string]*bucket{},
		held:      new(int64),
		pruned:    time.Now(),
		confirmed: new(int64),
		origin:    newOrigin(),
		calls:     new(uint64),
	}
}

func newOrigin() string {
	random := make([]byte, 8)
	_, _ = rand.Read(random)
	return hex.EncodeToString(random) + "-"
}

func (s *store) watch() {
	for {
		time.Sleep(pollEvery)
		s.turn()
		if now := time.Now(); now.Sub(s.pruned) > pruneEvery {
			s.pruned = now
			s.prune(now.UnixNano())
		}
	}
}

func (s *store) current() *tables {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.tables
}

// confirmation is the file whose time says until when the tables were known to be what was decided.
const confirmation = "confirmed"

// turn looks at each file once. What cannot be read leaves the last good version in force.
func (s *store) turn() {
	if at, err := os.Stat(filepath.Join(filepath.Dir(s.clients.path), confirmation)); err == nil {
		atomic.StoreInt64(s.confirmed, at.ModTime().Unix())
	}
	s.take(s.services, func(raw []byte, next *tables) ([]string, error) {
		table, problems, err := decodeServices(raw, s.tables.services)
		next.services = table
		return problems, err
	})
	s.take(s.clients, func(raw []byte, next *tables) ([]string, error) {
		table, problems, err := decodeClients(raw, s.tables.clients)
		next.clients = table
		return problems, err
	})
	s.take(s.secrets, func(raw []byte, next *tables) ([]string, error) {
		table, problems, err := decodeSecrets(raw)
		next.secrets = table
		return problems, err
	})
}

// take builds the next tables from a changed file and publishes them whole.
func (s *store) take(from *source, decode func([]byte, *tables) ([]string, error)) {
	next := tables{s.tables.services, s.tables.clients, s.tables.secrets, map[string]*decision{}}
	changed := false
	var problems []string
	err := guarded(func() error {
		raw, err := from.changed()
		if err != nil || raw == nil {
			return err
		}
		changed = true
		problems, err = decode(raw, &next)
		return err
	})
	if err == nil && !changed {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		from.problems = []string{fmt.Sprintf("%s: %v; %s", filepath.Base(from.path), err, from.inForce())}
		return
	}
	s.tables = &next
	from.good = true
	from.since = from.seen.ModTime()
	from.problems = problems
}

func (f *source) inForce() string {
	if f.good {
		return "the last good one stays in force"
	}
	return "none is in force"
}

// changed returns the file's content if it is another than last time. Different is enough, newer is not asked: a
// clock set back or a restored file must not hide a change. The identity is taken before the content is judged,
// so that a bad file is read once.
func (f *source) changed() ([]byte, error) {
	now, err := os.Stat(f.path)
	if err != nil {
		f.seen = nil
		return nil, err
	}
	if f.seen != nil && os.SameFile(f.seen, now) && f.seen.Size() == now.Size() && f.seen.ModTime().Equal(now.ModTime()) {
		return nil, nil
	}
	file, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	opened, err := file.Stat()
	if err != nil {
		return nil, err
	}
	f.seen = opened
	if f.seen.Size() > fileLimit {
		return nil, fmt.Errorf("it is larger than %d bytes", fileLimit)
	}
	return io.ReadAll(file)
}
