package policy

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
)

var b64 = base64.RawURLEncoding.Strict()

func sign(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// signed tells whether one of the keys, current or previous, made this tag over text.
func signed(keys [][]byte, text string, tag []byte) bool {
	for _, key := range keys {
		if hmac.Equal(sign(key, text), tag) {
			return true
		}
	}
	return false
}

func refuseKey(reason, format string, args ...interface{}) *refusal {
	return refuse(http.StatusUnauthorized, reason, format, args...)
}

// caller is a client, or one user of it, with its rights.
type caller struct {
	key      *key
	client   *client
	identity string
	bearer   bool
	within   []pattern // of a bearer: what its scopes cover
}

// mayCall is the right of step 4. Methods without a name are filtered, or checked by their body, behind the gate.
func (c *caller) mayCall(name string) bool {
	return covered(c.client.patterns, name) && (!c.bearer || covered(c.within, name))
}

// stepUp tells whether a broader scope would help.
func (c *caller) stepUp(name string) bool {
	return c.bearer && covered(c.client.patterns, name)
}

func covered(patterns []pattern, name string) bool {
	for _, p := range patterns {
		if p.matches(name) {
			return true
		}
	}
	return false
}

// callerByKey reads the one Authorization header.
func callerByKey(h http.Header, table *clientTable, now int64) (*caller, *refusal) {
	sent := h["Authorization"]
	if len(sent) == 0 {
		return nil, refuseKey("no_key", "no API key; send the header Authorization: Bearer tk_<id>_<secret>")
	}
	if len(sent) > 1 {
		return nil, refuseKey("no_key", "Authorization was sent %d times; send it once", len(sent))
	}
	token, ok := bearer(sent[0])
	if !ok {
		return nil, refuseKey("no_key", "Authorization holds no API key; send Bearer tk_<id>_<secret>")
	}
	// Unknown and wrong are one answer, after the same work.
	sum := sha256.Sum256([]byte(token))
	k := table.key(keyID(token))
	if k == nil || subtle.ConstantTimeCompare(sum[:], k.hash) != 1 {
		return nil, refuseKey("wrong_key", "the API key is not known here; ask an operator for one (tekup keys create)")
	}
	return callerWith(k, table, now)
}

func callerWith(k *key, table *clientTable, now int64) (*caller, *refusal) {
	c, no := clientOf(k, table, now)
	if no != nil {
		return nil, no
	}
	return &caller{key: k, client: c, identity: k.Client}, nil
}

// clientOf applies what the table says of a key now: expiry, revocation, its client.
func clientOf(k *key, table *clientTable, now int64) (*client, *refusal) {
	var no *refusal
	switch {
	case k.Revoked != 0:
		no = refuseKey("revoked_key", "API key %s is revoked; ask an operator for a new one (tekup keys create)", k.id)
	case k.Expires != 0 && now >= k.Expires:
		no = refuseKey("expired_key", "API key %s has expired; ask an operator for a new one (tekup keys create)", k.id)
	case table.client(k.Client) == nil:
		no = refuseKey("no_client", "API key %s belongs to client %s, which is not in force; ask an operator", k.id, k.Client)
	default:
		return table.client(k.Client), nil
	}
	no.client = k.Client
	return nil, no
}

func bearer(value string) (string, bool) {
	const scheme = "bearer "
	if len(value) <= len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(value[len(scheme):], " "), true
}

// keyID takes the id from tk_<id>_<secret>; ids hold no underscore.
func keyID(token string) string {
	parts := strings.SplitN(token, "_", 3)
	if len(parts) != 3 || parts[0] != "tk" {
		return ""
	}
	return parts[1]
}

// provenCaller returns who shows a valid proof on the internal entrypoint.
func provenCaller(h http.Header, callers []string, secrets *secretTable) (string, *refusal) {
	names, proofs := h[headerCaller], h[headerProof]
	if len(names) == 1 && len(proofs) == 1 && contains(callers, names[0]) {
		if own := secrets.services[names[0]]; own != nil {
			if tag, err := hex.DecodeString(proofs[0]); err == nil && signed(own.keys, "caller", tag) {
				return names[0], nil
			}
		}
	}
	return "", refuse(http.StatusForbidden, "unproven", "this entrypoint answers %s only, with a valid %s and %s; clients use the public one",
		strings.Join(callers, " and "), headerCaller, headerProof)
}

type grantPayload struct {
	Version int      `json:"v"`
	Client  string   `json:"client"`
	Key     string   `json:"key"`
	Subject string   `json:"subject"`
	Expires int64    `json:"expires"`
	Within  []string `json:"within"`
}

// openGrant checks a grant's MAC and reads who it is for. Its rights are not read: the table's current ones count.
func openGrant(grant string, mac [][]byte) (*grantPayload, bool) {
	parts := strings.Split(grant, ".")
	if len(parts) != 2 || len(grant) > grantLimit {
		return nil, false
	}
	tag, err := b64.DecodeString(parts[1])
	if err != nil || !signed(mac, parts[0], tag) {
		return nil, false
	}
	raw, err := b64.DecodeString(parts[0])
	if err != nil {
		return nil, false
	}
	payload := &grantPayload{}
	if err := json.Unmarshal(raw, payload); err != nil || payload.Version != 1 {
		return nil, false
	}
	return payload, true
}

// callerByGrant lets a grant stand for its key, which is looked up as if it had been sent, or for the bearer it was
// made of, which ends when that does.
func callerByGrant(sent []string, t *tables, now int64) (*caller, *refusal) {
	if len(sent) != 1 {
		return nil, refuseKey("wrong_grant", "%s was sent %d times; send it once", headerGrant, len(sent))
	}
	payload, ok := openGrant(sent[0], t.secrets.mac)
	if !ok {
		return nil, refuseKey("wrong_grant", "%s is not signed by this gate; hand on the one that came with the client's call", headerGrant)
	}
	if payload.Subject != "" {
		return callerByBearer(payload, sent[0], t.clients, now)
	}
	k := t.clients.key(payload.Key)
	if k == nil || k.Client != payload.Client {
		return nil, refuseKey("wrong_key", "the key of this grant is not known any more; the client needs a new one (tekup keys create)")
	}
	return callerWith(k, t.clients, now)
}

// callerByBearer: the client's rights are the table's, its users are told apart by their subject.
func callerByBearer(payload *grantPayload, grant string, table *clientTable, now int64) (*caller, *refusal) {
	if now >= payload.Expires {
		return nil, refuseKey("expired_bearer", "the access token has expired; get a new one from its authorization server")
	}
	c := table.client(payload.Client)
	if c == nil || len(c.OAuth) == 0 || payload.Key != "" || !only(payload.Subject, hexes) {
		return nil, refuseKey("no_client", "the access token belongs to client %s, which is not in force; ask an operator", clip(payload.Client))
	}
	who := &caller{client: c, identity: payload.Client + "~" + payload.Subject, bearer: true}
	who.key = &key{Client: payload.Client, Expires: payload.Expires, Grant: grant, used: new(int64)}
	for _, glob := range payload.Within {
		who.within = append(who.within, newPattern(glob))
	}
	return who, nil
}

// instanceOf opens a handle: <instance>.<random>.<tag>. Only one made for this client by this service names an
// instance; anything else names none, and whatever instance is asked answers for it.
func instanceOf(handle, client string, secret *serviceSecret) string {
	parts := strings.Split(handle, ".")
	if len(parts) != 3 || len(parts[2]) != handleTag {
		return ""
	}
	text := parts[0] + "." + parts[1] + "." + client
	for _, key := range secret.keys {
		tag := b64.EncodeToString(sign(key, text))[:handleTag]
		if subtle.ConstantTimeCompare([]byte(tag), []byte(parts[2])) == 1 {
			return parts[0]
		}
	}
	return ""
}

const handleTag = 22
