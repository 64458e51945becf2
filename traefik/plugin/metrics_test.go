package policy

import (
	"fmt"
	"strings"
	"testing"
)

func TestOfEachServiceOnlySoManyToolsAreToldApart(t *testing.T) {
	c := newCounters()
	for i := 0; i < toolLimit; i++ {
		name := fmt.Sprintf("alpha_%d", i)
		if got := c.toolOf("alpha", name); got != name {
			t.Fatalf("%s is %s", name, got)
		}
	}
	for tool, want := range map[string]string{"alpha_7": "alpha_7", "alpha_new": others, "": ""} {
		if got := c.toolOf("alpha", tool); got != want {
			t.Errorf("%q is %q", tool, got)
		}
	}
	if got := c.toolOf("beta", "beta_new"); got != "beta_new" {
		t.Errorf("another service's tool is %q", got)
	}
}

func TestWhatIsNoNameOfAToolIsNoLabel(t *testing.T) {
	c := newCounters()
	for _, name := range []string{`alpha_"} 1`, "alpha_\n", "alpha_é", "alpha_" + strings.Repeat("a", 59)} {
		if got := c.toolOf("alpha", name); got != others {
			t.Errorf("%q is %q", name, got)
		}
	}
}

func TestTooManySeriesAreCountedTogether(t *testing.T) {
	c := newCounters()
	for i := 0; i < seriesLimit+5; i++ {
		*c.usedBy(fmt.Sprintf("c%d", i), "alpha", passed)++
	}
	if got := *c.usedBy("new", "beta", passed); got != 5 {
		t.Errorf("%d", got)
	}
}
