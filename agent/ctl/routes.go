package ctl

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
)

const pathRoutes = "/api/v1/routes"

// route is what the admin API tells about a route.
type route struct {
	Name     string `json:"name"`
	Upstream string `json:"upstream"`
	Ready    bool   `json:"ready"`
	Detail   string `json:"detail"`
	InFlight int    `json:"in_flight"`
	Queued   int    `json:"queued"`
	Limit    int    `json:"concurrency"`
}

// routes lists the routes, one a line.
func (c *Controller) routes(ctx context.Context, arg string) error {
	if arg != "" {
		return c.noArguments("routes")
	}
	server, err := c.connect()
	if err != nil {
		return c.plainError(ctx, err)
	}
	body, err := admin(ctx, server, http.MethodGet, pathRoutes)
	if err != nil {
		return c.plainError(ctx, fmt.Errorf("cannot get the routes: %w", err))
	}
	var list []route
	if err := json.Unmarshal(body, &list); err != nil {
		return c.plainError(ctx, fmt.Errorf("cannot read the routes: %w", err))
	}
	if len(list) > 0 {
		c.output(routeTable(list))
	}
	return nil
}

func routeTable(list []route) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ROUTE\tUPSTREAM\tREADY\tIN FLIGHT\tQUEUED\tDETAIL")
	for _, r := range list {
		ready, flying := "no", strconv.Itoa(r.InFlight)
		if r.Ready {
			ready = "yes"
		}
		if r.Limit > 0 {
			flying += " of " + strconv.Itoa(r.Limit)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", r.Name, r.Upstream, ready, flying, r.Queued, r.Detail)
	}
	w.Flush()
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
