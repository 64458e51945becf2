package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// JSON-RPC codes of MCP 2026-07-28, basic/transports/streamable-http: header mismatch, unsupported version.
const (
	codeHeader  = -32020
	codeVersion = -32022
)

// The most of a refused request's body that is read for its id, and the longest id said back.
const (
	maxRefusedBody = 64 * 1024
	maxID          = 256
)

// refusal is an answer of the gate itself. Its body is JSON-RPC: a plain body would make clients of both eras fall
// back to the legacy one.
type refusal struct {
	id      json.RawMessage // the request's, where it is known
	status  int
	code    int
	message string
	data    map[string]interface{}
	// These label the metric; all of them come from bounded sets.
	class   string
	era     string
	reason  string
	client  string
	service string
	// challenge and retry are the values of WWW-Authenticate and Retry-After; "" where the status says enough.
	challenge string
	retry     string
}

func (n *refusal) write(w http.ResponseWriter) {
	switch n.status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost)
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	}
	if n.challenge != "" {
		w.Header().Set("WWW-Authenticate", n.challenge)
	}
	if n.retry != "" {
		w.Header().Set("Retry-After", n.retry)
	}
	writeJSON(w, n.status, n.body())
}

func (n *refusal) body() map[string]interface{} {
	problem := map[string]interface{}{"code": n.code, "message": n.message}
	if n.data != nil {
		problem["data"] = n.data
	}
	return map[string]interface{}{"jsonrpc": "2.0", "id": n.id, "error": problem}
}

// leftover is a refusal of a client's limit, as it passes the ceilings per address. These answer 429 themselves, in plain
// text, and what makes JSON-RPC of that (gate.yml, "edge-refusals") replaces every 429, ours as well: it asks the role
// last for the words, with the request's headers, and among them is ours. The edge has removed a caller's own.
type leftover struct {
	Body    json.RawMessage `json:"body"`
	Retry   string          `json:"retry"`
	Policy  string          `json:"policy"`
	Budgets string          `json:"budgets"`
}

func (n *refusal) leave(request, answer http.Header) {
	body, err := json.Marshal(n.body())
	if err != nil {
		return
	}
	text, err := json.Marshal(leftover{body, n.retry, answer.Get(headerPolicy), answer.Get(headerBudgets)})
	if err == nil {
		request[headerRefusal] = []string{b64.EncodeToString(text)}
	}
}

// repeat writes a refusal that was left.
func repeat(w http.ResponseWriter, left string) {
	var said leftover
	text, err := b64.DecodeString(left)
	if err != nil || json.Unmarshal(text, &said) != nil {
		refuseLast("/429", "").write(w)
		return
	}
	w.Header().Set("Retry-After", said.Retry)
	if said.Policy != "" {
		w.Header().Set(headerPolicy, said.Policy)
		w.Header().Set(headerBudgets, said.Budgets)
	}
	writeJSON(w, http.StatusTooManyRequests, said.Body)
}

// idOf finds the id of a request that is refused: the protocol's schema knows no null, and a client that pairs answers
// with requests would drop the reason. Only here is a body ever read, for it goes nowhere; a long one is left alone.
func idOf(r *http.Request) json.RawMessage {
	if r.ContentLength <= 0 || r.ContentLength > maxRefusedBody {
		return nil
	}
	var message struct {
		ID json.RawMessage `json:"id"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength))
	if err != nil || json.Unmarshal(body, &message) != nil {
		return nil
	}
	id := message.ID
	if len(id) == 0 || len(id) > maxID || id[0] != '"' && id[0] != '-' && (id[0] < '0' || id[0] > '9') {
		return nil
	}
	return id
}

func writeJSON(w http.ResponseWriter, status int, value interface{}) {
	body, err := json.Marshal(value)
	if err != nil {
		status = http.StatusInternalServerError
		body = []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":500,"message":"the gate could not write its answer"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func refuse(status int, reason, format string, args ...interface{}) *refusal {
	return &refusal{status: status, code: status, reason: reason, message: fmt.Sprintf(format, args...)}
}

func refuseHeader(format string, args ...interface{}) *refusal {
	no := refuse(http.StatusBadRequest, "header", format, args...)
	no.code = codeHeader
	return no
}

func refuseVersion(requested string, supported []string) *refusal {
	no := refuse(http.StatusBadRequest, "version", "MCP-Protocol-Version %q is not spoken here; use one of data.supported", clip(requested))
	no.code = codeVersion
	no.data = map[string]interface{}{"supported": supported, "requested": clip(requested)}
	return no
}

func refusePage(p *settings, r *request) *refusal {
	if len(p.hosts) > 0 && !hostAllowed(p.hosts, r.host) {
		return refuse(http.StatusForbidden, "host", "Host %q is not served here; use the address you were given", clip(r.host))
	}
	return refuse(http.StatusForbidden, "origin", "pages of Origin %q may not call this gate; an operator can allow it", clip(r.header.Get("Origin")))
}

func refuseUnknown(service string) *refusal {
	return refuse(http.StatusNotFound, "path", "there is no service %q; /mcp serves all of them", service)
}

func refuseForeign(name, service string) *refusal {
	return refuseHeader("Mcp-Name %q does not belong to service %s, whose names begin with %s_ or %s://; use /mcp for all services",
		clip(name), service, service, service)
}

func refuseEncoding(name string) *refusal {
	return refuseHeader("%s is not decodable; after =?base64? comes canonical base64 of UTF-8, then ?=", name)
}

func refuseRight(client string, c *call) *refusal {
	return refuse(http.StatusForbidden, "right", "client %s lacks the right %q (%s); an operator can grant it (tekup clients)",
		client, clip(c.name), c.method)
}

func refuseGrantless(method, caller string) *refusal {
	return refuse(http.StatusForbidden, "right", "%s of %s is a client's call: hand on its %s", clip(method), caller, headerGrant)
}

func refuseBody(most int64) *refusal {
	return refuse(http.StatusRequestEntityTooLarge, "body", "the request body is larger than %d bytes; send less, or in parts", most)
}

func refuseStale(age int64) *refusal {
	return refuse(http.StatusServiceUnavailable, "stale",
		"the gate's policy was last confirmed %d s ago, longer than it may be; its agent or Consul is away", age)
}

func refuseNoTable(t *tables) *refusal {
	file := "secrets.json"
	if t.services == nil {
		file = "services.json"
	} else if t.clients == nil {
		file = "clients.json"
	}
	return refuse(http.StatusServiceUnavailable, "no_table", "the gate has no %s yet; try again in a second", file)
}

func refuseNoSecret(service string) *refusal {
	return refuse(http.StatusServiceUnavailable, "no_secret", "the gate has no key to prove itself to service %s; add it to secrets.json", service)
}

func refuseNoTarget(service string) *refusal {
	no := refuse(http.StatusServiceUnavailable, "no_target", "service %s has no live instance; try again in a second", service)
	no.service = service
	return no
}

// refuseLast answers where no instance did. The path is the caller's for a target that stands in the tables but not
// (yet, any more) in the routes, and Traefik's status for what its own middlewares refuse and for a call that was sent
// or could not be (gate.yml).
func refuseLast(path, target string) *refusal {
	switch path {
	case "/426":
		return refuse(http.StatusUpgradeRequired, "plain", "this address is https; call it so, and change a key that was sent in the clear")
	case "/429":
		if target != "" {
			return refuse(http.StatusTooManyRequests, "lost", "the service of target %q has as many calls as it takes; try again in a second", clip(target))
		}
		no := refuse(http.StatusTooManyRequests, "address", "too many calls come from this address, or are open; try again in a second")
		no.retry = "1"
		return no
	case "/502":
		if ofHandle(target) {
			return refuse(http.StatusBadGateway, "lost", "the instance that holds this handle could not be reached, or ended during the call; it may have run, so look before you call again, and if the handle is gone, open anew")
		}
		return refuse(http.StatusBadGateway, "lost", "no instance of target %q could be reached, or the one that took the call ended during it; it may have run, so look before you call again", clip(target))
	case "/500":
		return refuseBroken(target)
	case "/oauth":
		return refuse(http.StatusServiceUnavailable, "untold", "what tokens are taken here cannot be told now; try again in a second")
	case "/504":
		return refuse(http.StatusGatewayTimeout, "lost", "the instance of target %q that took the call did not answer in time; it may have run, so look before you call again", clip(target))
	}
	return refuse(http.StatusServiceUnavailable, "unrouted", "no live instance answers for target %q; try again in a second", clip(target))
}

// refuseBroken answers for a 500 to a caller with a bearer (oauth.yml, "auth-lost"): without a target it is Traefik's own,
// which could not ask whether the bearer is good.
func refuseBroken(target string) *refusal {
	if target != "" {
		return refuse(http.StatusInternalServerError, "lost", "the instance of target %q that took the call broke; it may have run, so look before you call again", clip(target))
	}
	no := refuse(http.StatusInternalServerError, "unjudged", "the gate could not ask whether this bearer is good, and has sent the call to nobody; try again in a second")
	no.retry = "1"
	return no
}

// ofHandle tells an instance's target, <service>_<version>_<instance>, from a version's; no part holds "_".
func ofHandle(target string) bool {
	return strings.Count(target, "_") == 2
}

// clip bounds what a caller sent before it is said back.
func clip(text string) string {
	if len(text) > 100 {
		return text[:100] + "…"
	}
	return text
}
