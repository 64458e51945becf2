package policy

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"sync/atomic"
)

// A call goes on once its body is here, whole. One that breaks off, or is longer than may be, is refused before any
// instance hears of it: Traefik would take it for the instance's failure, and two such calls would take the instance away
// from everybody (docs/decisions/0024). Nor does a slow sender hold an instance.

const (
	// smallBody is held without being counted; it is as much as a connection's buffers hold anyway.
	smallBody = 64 << 10
	// heldLimit bounds what all larger bodies together may take of the gate's memory.
	heldLimit = 256 << 20
)

// serveHeld is the way of a call of which something is counted until its answer ends, however that ends: calls under
// way, or memory.
func (g *gate) serveHeld(w http.ResponseWriter, r *http.Request, d *decision, now int64) {
	if d.counted {
		if no := d.enterAll(); no != nil {
			g.refuse(w, r, no)
			return
		}
		defer d.leaveAll()
	}
	held, no := g.takeBody(r)
	if no != nil {
		g.refuse(w, r, d.refused(no))
		return
	}
	defer g.letGo(held)
	g.forward(w, r, d, now)
}

// takeBody reads a call's body, and returns how much of the gate's memory it is counted with.
func (g *gate) takeBody(r *http.Request) (int64, *refusal) {
	most := r.ContentLength
	if most == 0 {
		return 0, nil // with a body of no bytes it would go on in chunks
	}
	if most > g.settings.maxBody {
		return 0, refuseBody(g.settings.maxBody)
	}
	if most < 0 {
		most = g.settings.maxBody
	}
	if atomic.AddInt64(g.store.held, most) > heldLimit {
		g.letGo(most)
		return 0, refuseFull()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	size := int64(len(body))
	switch {
	case err != nil:
		g.letGo(most)
		return 0, refuseBrokenBody(err, size)
	case r.ContentLength >= 0 && size != r.ContentLength:
		g.letGo(most)
		return 0, refuseBrokenBody(io.ErrUnexpectedEOF, size)
	case size > most:
		g.letGo(most)
		return 0, refuseBody(g.settings.maxBody)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = size
	r.TransferEncoding = nil
	r.Trailer = nil
	return most, nil
}

func (g *gate) letGo(held int64) {
	atomic.AddInt64(g.store.held, -held)
}

func refuseBrokenBody(err error, size int64) *refusal {
	if os.IsTimeout(err) {
		return refuse(http.StatusRequestTimeout, "slow", "of the request's body %d bytes were sent in time; send it at once, or less of it", size)
	}
	return refuse(http.StatusBadRequest, "broken", "the request's body broke off after %d bytes, or is not sent as it should be; the call was not passed on", size)
}

func refuseFull() *refusal {
	return refuse(http.StatusServiceUnavailable, "full", "the gate holds as many large requests as it may; try again in a second")
}
