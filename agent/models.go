package agent

import (
	"context"

	"github.com/inpod/inpod/models"
	"github.com/prometheus/client_golang/prometheus"
)

// modelStep fetches models; nil when the settings name none.
func (a *agent) modelStep(l *loaded) step {
	f := models.New(l.cfg.Models, models.Options{Log: a.log.With("part", "models"), Env: a.opts.Env})
	if f.Len() == 0 {
		return nil
	}
	return modelStep{f}
}

type modelStep struct{ fetcher *models.Fetcher }

// collectors are the metrics of the steps that have some of their own.
func (p *preparation) collectors() []prometheus.Collector {
	var list []prometheus.Collector
	for _, s := range p.steps {
		if m, ok := s.(modelStep); ok {
			list = append(list, m.fetcher)
		}
	}
	return list
}

// close waits for what is fetched in the background: its context has ended.
func (m modelStep) close() { m.fetcher.Close() }

func (m modelStep) run(ctx context.Context) error { return m.fetcher.Run(ctx) }

func (m modelStep) items() []StartItem {
	var items []StartItem
	for _, s := range m.fetcher.States() {
		item := StartItem{
			Kind: "model", Name: s.Name, State: itemRunning, Detail: s.Detail, Started: stamp(s.Began), Seconds: s.Took.Seconds(), Apart: s.Background,
		}
		switch s.State {
		case "waiting":
			item.State = itemWaiting
		case "ready":
			item.State = itemDone
		case "failed":
			item.State = itemFailed
		case "unpacking":
			if item.Detail == "" {
				item.Detail = s.State
			}
		}
		items = append(items, item)
	}
	return items
}
