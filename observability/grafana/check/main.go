// check reads dashboards as Grafana's own types have them, and says what does not fit: go run . FILE...
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/logs"
	"github.com/grafana/grafana-foundation-sdk/go/loki"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// The kinds of panels and of queries that are read strictly; any other is an error, for nothing would be checked of it.
var panels = []variants.PanelcfgConfig{
	heatmap.VariantConfig(), logs.VariantConfig(), stat.VariantConfig(), statetimeline.VariantConfig(),
	table.VariantConfig(), timeseries.VariantConfig(),
}
var queries = []variants.DataqueryConfig{loki.VariantConfig(), prometheus.VariantConfig()}

func main() {
	for _, kind := range panels {
		cog.NewRuntime().RegisterPanelcfgVariant(kind)
	}
	for _, kind := range queries {
		cog.NewRuntime().RegisterDataqueryVariant(kind)
	}
	failed := false
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := known(text); err != nil {
		return err
	}
	found := dashboard.Dashboard{}
	if err := some(found.UnmarshalJSONStrict(text)); err != nil {
		return err
	}
	return some(found.Validate())
}

// known says whether every panel and every query is of a kind that is read strictly.
func known(text []byte) error {
	found := struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Datasource struct{ Type string } }
		}
	}{}
	if err := json.Unmarshal(text, &found); err != nil {
		return err
	}
	kinds := map[string]bool{"panel row": true}
	for _, kind := range panels {
		kinds["panel "+kind.Identifier] = true
	}
	for _, kind := range queries {
		kinds["query "+kind.Identifier] = true
	}
	for _, panel := range found.Panels {
		wanted := []string{"panel " + panel.Type}
		for _, target := range panel.Targets {
			wanted = append(wanted, "query "+target.Datasource.Type)
		}
		for _, kind := range wanted {
			if !kinds[kind] {
				return fmt.Errorf("%q: %q is a kind this program does not read; add it to the lists in main.go", panel.Title, kind)
			}
		}
	}
	return nil
}

// some makes nil of the empty list of errors, which the generated code gives where all is well.
func some(err error) error {
	list := cog.BuildErrors{}
	if errors.As(err, &list) && len(list) == 0 {
		return nil
	}
	return err
}
