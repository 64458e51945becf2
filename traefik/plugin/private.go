package policy

import (
	"net/http"
	"time"
)

// servePrivate answers the agent and Prometheus. The entrypoint is bound to loopback (dynamic/gate.yml).
func (g *gate) servePrivate(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/tekup/state":
		writeJSON(w, http.StatusOK, g.store.state())
	case "/metrics":
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(g.store.print(time.Now())))
	default:
		refuse(http.StatusNotFound, "path", "%q is not served here; /tekup/state, /metrics and /api are", clip(r.URL.Path)).write(w)
	}
}

// state says what is in force, and what is wrong with what is not.
func (s *store) state() map[string]interface{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	services, clients, secrets := stamp{}, stamp{}, ""
	if s.tables.services != nil {
		services = s.tables.services.stamp
	}
	if s.tables.clients != nil {
		clients = s.tables.clients.stamp
	}
	if s.tables.secrets != nil {
		secrets = s.tables.secrets.sha256
	}
	return map[string]interface{}{
		"services": report(services, s.services.problems),
		"clients":  report(clients, s.clients.problems),
		"secrets":  map[string]interface{}{"sha256": secrets, "problems": listOf(s.secrets.problems)},
	}
}

func report(at stamp, problems []string) map[string]interface{} {
	return map[string]interface{}{"serial": at.Serial, "epoch": at.Epoch, "number": at.Number, "problems": listOf(problems)}
}

// listOf keeps an empty list from being written as null.
func listOf(items []string) []string {
	if items == nil {
		return []string{}
	}
	return items
}

// listServices is GET /tekup/services: all services, those that nobody serves now with stable "". The hub is the one
// who asks.
func listServices(t *tables) map[string]interface{} {
	known := map[string]interface{}{}
	for name, s := range t.services.services {
		if name != hubService {
			known[name] = map[string]string{"stable": s.Stable}
		}
	}
	return map[string]interface{}{"services": known}
}
