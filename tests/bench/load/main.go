// Load makes bounded calls in a closed loop and prints what came of them; it is also the quickest backend there is.
//
//	load serve ADDRESS                               answers every POST and GET with a small JSON-RPC result
//	load mcp ADDRESS TOOLS                           is a server of MCP that answers at once, with so many tools
//	load fleet TOOLS <lines                          the same for each line: ADDRESS VERSION INSTANCE NAME
//	load call URL WORKERS SECONDS HEADER=VALUE... <body
//
// With the header Mcp-Session-Id=each, every worker begins a session of its own first and calls within it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

const mostCalls = 2_000_000

type result struct {
	Calls      int     `json:"calls"`
	Failures   int     `json:"failures"`
	PerSecond  float64 `json:"per_second"`
	P50Ms      float64 `json:"p50_ms"`
	P95Ms      float64 `json:"p95_ms"`
	P99Ms      float64 `json:"p99_ms"`
	Bytes      float64 `json:"bytes"` // of an answer's body, on average
	FirstError string  `json:"first_error"`
	LastError  float64 `json:"last_error_s"` // when it ended, since the beginning
}

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		serve(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "mcp":
		serveMCP(os.Args[2], number(os.Args[3]), identity{})
	case len(os.Args) == 3 && os.Args[1] == "fleet":
		serveFleet(number(os.Args[2]))
	case len(os.Args) >= 5 && os.Args[1] == "call":
		call(os.Args[2], number(os.Args[3]), time.Duration(number(os.Args[4]))*time.Second, os.Args[5:])
	default:
		fmt.Fprintln(os.Stderr, "load serve ADDRESS | load mcp ADDRESS TOOLS | load fleet TOOLS | load call URL WORKERS SECONDS HEADER=VALUE...")
		os.Exit(2)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil || value < 1 || value > 10_000 {
		fmt.Fprintf(os.Stderr, "load: %q is not a number from 1 to 10000\n", text)
		os.Exit(2)
	}
	return value
}

func serve(address string) {
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}`)
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}

const (
	session     = "Mcp-Session-Id"
	each        = session + "=each"
	initialize  = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"load","version":"1"}}}`
	initialized = `{"jsonrpc":"2.0","method":"notifications/initialized"}`
)

type worker struct {
	headers    []string
	times      []time.Duration
	failures   int
	bytes      int
	firstError string
	lastError  time.Time
}

func call(url string, workers int, length time.Duration, headers []string) {
	body, _ := io.ReadAll(os.Stdin)
	client := &http.Client{
		Timeout:   120 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: workers, MaxConnsPerHost: workers},
	}
	team := make([]worker, workers)
	for i := range team {
		team[i].headers = inSession(client, url, headers)
	}
	var group sync.WaitGroup
	began := time.Now()
	for i := range team {
		group.Add(1)
		go func(me *worker) {
			defer group.Done()
			for time.Since(began) < length && len(me.times) < mostCalls/workers {
				me.once(client, url, string(body))
			}
		}(&team[i])
	}
	group.Wait()
	print(team, began)
}

// InSession returns the headers with the id of a session that was begun with them, where one is asked for.
func inSession(client *http.Client, url string, headers []string) []string {
	var own []string
	for _, header := range headers {
		if header != each {
			own = append(own, header)
		}
	}
	if len(own) == len(headers) {
		return headers
	}
	for _, body := range []string{initialize, initialized} {
		answer, err := client.Do(post(url, body, own))
		if err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			os.Exit(1)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if id := answer.Header.Get(session); id != "" && body == initialize {
			own = append(own, session+"="+id)
		}
	}
	return own
}

func post(url, body string, headers []string) *http.Request {
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	for _, header := range headers {
		name, value, _ := strings.Cut(header, "=")
		request.Header.Set(name, value)
	}
	return request
}

func (me *worker) once(client *http.Client, url, body string) {
	request := post(url, body, me.headers)
	began := time.Now()
	failure := ""
	answer, err := client.Do(request)
	if err != nil {
		failure = err.Error()
	} else {
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		me.bytes += len(text)
		if answer.StatusCode != http.StatusOK || !good(string(text)) {
			failure = fmt.Sprintf("%d %.200s", answer.StatusCode, text)
		}
	}
	me.times = append(me.times, time.Since(began))
	if failure != "" {
		me.failures++
		me.lastError = time.Now()
		if me.firstError == "" {
			me.firstError = failure
		}
	}
}

// Good: a tool's result that is no error; some servers leave isError out where it would be false.
func good(text string) bool {
	return strings.Contains(text, `"isError":false`) ||
		(strings.Contains(text, `"result":`) && !strings.Contains(text, `"isError":true`))
}

func print(team []worker, began time.Time) {
	took := time.Since(began)
	var all []time.Duration
	out := result{}
	for _, one := range team {
		all = append(all, one.times...)
		out.Failures += one.failures
		if one.failures > 0 {
			out.LastError = max(out.LastError, one.lastError.Sub(began).Seconds())
		}
		out.Bytes += float64(one.bytes)
		if out.FirstError == "" {
			out.FirstError = one.firstError
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := func(share float64) float64 {
		return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000
	}
	out.Calls, out.PerSecond = len(all), float64(len(all)-out.Failures)/took.Seconds()
	out.P50Ms, out.P95Ms, out.P99Ms = at(0.50), at(0.95), at(0.99)
	out.Bytes /= float64(len(all))
	_ = json.NewEncoder(os.Stdout).Encode(out)
}
