package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
)

type request struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		ProtocolVersion string `json:"protocolVersion"`
	} `json:"params"`
}

// ServeMCP is a server of MCP that costs next to nothing: both eras, any session, one tool that answers at once among so
// many. Whoever stands before it is what is measured.
func serveMCP(address string, tools int) {
	list := make([]string, tools)
	for at := range list {
		name := "bench_echo"
		if at > 0 {
			name = fmt.Sprintf("bench_other_%d", at)
		}
		list[at] = fmt.Sprintf(`{"name":%q,"description":"Says it again, the %dth of many.","inputSchema":{"type":"object","properties":{"text":{"type":"string","description":"What to say."}}}}`, name, at)
	}
	const about = `"capabilities":{"tools":{}},"serverInfo":{"name":"bench","version":"1"}`
	const whole = `"resultType":"complete","ttlMs":60000,"cacheScope":"public"`
	results := map[string]string{
		"server/discover": `{"supportedVersions":["2026-07-28"],` + about + `,` + whole + `}`,
		"tools/list":      `{"tools":[` + strings.Join(list, ",") + `],` + whole + `}`,
		"tools/call":      `{"content":[{"type":"text","text":"echo"}],"isError":false,"resultType":"complete"}`,
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
