package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
)

// Identity is what an instance says of itself in each answer, as the platform's own do.
type identity struct{ version, instance, name string }

// ServeFleet is many servers of MCP in one process, each with an address and an identity of its own.
func serveFleet(tools int) {
	var group sync.WaitGroup
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var address string
		var own identity
		if _, err := fmt.Sscan(lines.Text(), &address, &own.version, &own.instance, &own.name); err != nil {
			fmt.Fprintf(os.Stderr, "load: %q is not ADDRESS VERSION INSTANCE NAME\n", lines.Text())
			os.Exit(2)
		}
		group.Add(1)
		go serveMCP(address, tools, own)
	}
	group.Wait() // each serves for ever
}

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		ProtocolVersion string `json:"protocolVersion"`
	} `json:"params"`
}

// ServeMCP is a server of MCP that costs next to nothing: both eras, any session, one tool that answers at once among so
// many. Whoever stands before it is what is measured.
func serveMCP(address string, tools int, own identity) {
	if own.name == "" {
		own.name = "bench"
	}
	list := make([]string, tools)
	for at := range list {
		name := own.name + "_echo"
		if at > 0 {
			name = fmt.Sprintf("%s_other_%d", own.name, at)
		}
		list[at] = fmt.Sprintf(`{"name":%q,"description":"Says it again, the %dth of many.","inputSchema":{"type":"object","properties":{"text":{"type":"string","description":"What to say."}}}}`, name, at)
	}
	if own.version == "" {
		own.version = "1"
	}
	about := fmt.Sprintf(`"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":%q}`, own.version)
	meta := fmt.Sprintf(`"_meta":{"io.modelcontextprotocol/serverInfo":{"name":"bench","version":%q}}`, own.version)
	const whole = `"resultType":"complete","ttlMs":60000,"cacheScope":"public"`
	results := map[string]string{
		"server/discover": `{"supportedVersions":["2026-07-28"],` + about + `,` + whole + `,` + meta + `}`,
		"tools/list":      `{"tools":[` + strings.Join(list, ",") + `],` + whole + `,` + meta + `}`,
		"tools/call":      `{"content":[{"type":"text","text":"echo"}],"isError":false,"resultType":"complete",` + meta + `}`,
		"resources/list":  `{"resources":[],` + whole + `}`,
		"prompts/list":    `{"prompts":[],` + whole + `}`,
		"ping":            `{}`,
	}
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPost:
		case http.MethodGet:
			if strings.HasSuffix(r.URL.Path, "/mcp") {
				w.WriteHeader(http.StatusMethodNotAllowed)
			}
			return
		default:
			return
		}
		var asked request
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if asked.ID == nil {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if own.instance != "" {
			w.Header().Set("X-Tekup-Instance", own.instance)
			w.Header().Set("X-Tekup-Version", own.version)
		}
		result, known := results[asked.Method]
		if asked.Method == "initialize" {
			w.Header().Set(session, "each-is-welcome")
			result, known = fmt.Sprintf(`{"protocolVersion":%q,%s}`, asked.Params.ProtocolVersion, about), true
		}
		if !known {
			fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}`, asked.ID)
			return
		}
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, asked.ID, result)
	}))
	fmt.Fprintln(os.Stderr, "load:", err)
	os.Exit(1)
}
