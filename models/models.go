// Package models fetches what programs need before they start: models, from web servers, S3-compatible stores, registries
// and files.
//
// Enter at New and Run. Each model, or each part of one that has several, is a unit: its source lists the files (http.go,
// s3.go, oci.go, file.go), each is fetched into a partial file that a later run goes on with (fetch.go), unpacked where it is
// an archive (unpack.go), and all of it is put into its place at once (place.go), with a note of what it is: the next start
// sees that it is there (stamp.go).
//
// The package starts no process and knows nothing of programs. What it writes lies in the directories that models[].to
// name and in hidden ones beside them.
package models

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/inpod/inpod/config"
)

// atOnce is how many models are fetched at the same time. More would only make each of them later.
const atOnce = 2

// Options is what a Fetcher needs from its surroundings.
type Options struct {
	Log *slog.Logger
	// Env is the environment, in which credentials may be (AWS_…, DOCKER_CONFIG, HOME).
	Env []string
}

// Fetcher fetches a list of models, once.
type Fetcher struct {
	log    *slog.Logger
	units  []*unit
	places chan struct{}
	behind sync.WaitGroup // what Run does not wait for
	descs  descriptions
}

// unit is one model, or one part of one: what is fetched into one directory.
type unit struct {
	name        string // as the settings call it: model, or model/part
	url, sha256 string
	to          string
	model       *config.Model
	env         map[string]string
	client      *http.Client
	log         *slog.Logger
	pause       time.Duration // before the second attempt
	progress
}

// New makes a Fetcher of the models that have something to fetch.
func New(models []config.Model, o Options) *Fetcher {
	f := &Fetcher{log: o.Log, places: make(chan struct{}, atOnce), descs: describe()}
	env := map[string]string{}
	for _, kv := range o.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	client := newClient()
	for i := range models {
		m := &models[i]
		for _, part := range m.Parts() {
			u := &unit{name: m.Name, url: part.URL, sha256: part.SHA256, to: m.To, model: m, env: env, client: client, pause: firstPause}
			if part.Name != "" {
				u.name, u.to = m.Name+"/"+part.Name, filepath.Join(m.To, part.Name)
			}
			u.log = o.Log.With("model", u.name)
			f.units = append(f.units, u)
		}
	}
	return f
}

// Len is how many units there are.
func (f *Fetcher) Len() int { return len(f.units) }

// Run fetches, in the order of the settings, and returns when all models are there that the start waits for. Those in the
// background come after them, and go on until ctx ends. The first failure ends the others: its error names the model and
// says what can be done.
func (f *Fetcher) Run(ctx context.Context) error {
	waited, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for _, u := range f.units {
		if u.model.Background || !f.take(waited) {
			continue
		}
		all.Go(func() {
			defer f.give()
			if err := u.run(waited); err != nil && waited.Err() == nil {
				cancel(fmt.Errorf("cannot fetch the model %q: %w", u.name, err))
			}
		})
	}
	all.Wait()
	if err := context.Cause(waited); err != nil {
		return err
	}
	for _, u := range f.units {
		if u.model.Background {
			f.behind.Go(func() { f.keepTrying(ctx, u) })
		}
	}
	return nil
}

// Close returns when nothing is fetched in the background any more: the context of Run must have ended.
func (f *Fetcher) Close() { f.behind.Wait() }

// take waits for a place; false when ctx has ended.
func (f *Fetcher) take(ctx context.Context) bool {
	select {
	case f.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (f *Fetcher) give() { <-f.places }

// laterPeriod is the time between two attempts at a model in the background that failed for good.
const laterPeriod = 5 * time.Minute

// keepTrying fetches in the background: what failed for good, by its own account, is tried again later.
func (f *Fetcher) keepTrying(ctx context.Context, u *unit) {
	for f.take(ctx) {
		err := u.run(ctx)
		f.give()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(laterPeriod):
		}
	}
}

// run fetches the unit, as often as it takes.
func (u *unit) run(ctx context.Context) error {
	u.begin()
	err := u.persist(ctx)
	switch {
	case err == nil:
		u.end(stateReady, "")
	case ctx.Err() != nil:
		u.end(stateWaiting, "")
		return context.Cause(ctx)
	default:
		u.end(stateFailed, err.Error())
		u.log.Error("cannot fetch the model", "error", err)
	}
	return err
}

// persist tries again after what may pass, until no byte has come for models[].retry_for.
func (u *unit) persist(ctx context.Context) error {
	pause := backoff{first: u.pause}
	last, bytes := time.Now(), u.received.Load()
	for {
		err := u.once(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		var f *finalError
		if errors.As(err, &f) {
			return f.error
		}
		if now := u.received.Load(); now != bytes {
			last, bytes, pause = time.Now(), now, backoff{first: u.pause}
		}
		wait := pause.next(err)
		if time.Since(last)+wait > u.model.RetryFor {
			return fmt.Errorf("%w (tried for %s without getting further)", err, time.Since(last).Round(time.Second))
		}
		u.set(stateFetching, "trying again: "+err.Error())
		u.log.Warn("the fetch broke off and is tried again", "error", err, "in", wait.String(), "have", u.done.Load())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// once brings the unit to what its source has.
func (u *unit) once(ctx context.Context) error {
	src, err := u.source()
	if err != nil {
		return final(err)
	}
	p, err := u.place()
	if err != nil {
		return final(err)
	}
	had := p.stamp()
	if had != nil && !had.covers(u, p.to) {
		had = nil
	}
	if had != nil && u.sha256 != "" {
		u.log.Info("the model is there", "to", u.to, "sha256", u.sha256)
		return nil
	}
	u.set(stateFetching, "")
	list, err := src.list(ctx, had)
	if had != nil {
		switch {
		case err == nil && list.version == had.Version && had.Version != "":
			u.log.Info("the model is there and has not changed", "to", u.to)
			return nil
		case err != nil && ctx.Err() == nil:
			// What is there was right once; a pod that starts matters more than the newest model.
			u.log.Warn("cannot ask whether the model has changed; what is there is used", "error", err)
			return nil
		}
	}
	if err != nil {
		return err
	}
	return u.renew(ctx, p, list)
}

// renew fetches everything and puts it into its place.
func (u *unit) renew(ctx context.Context, p *place, list *listing) error {
	if err := p.owned(); err != nil {
		return final(err)
	}
	w, err := u.openWork(ctx, p)
	if errors.Is(err, errQuicker) {
		return u.once(ctx)
	}
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.suits(u, list); err != nil {
		return final(p.explain(err))
	}
	began := time.Now()
	u.done.Store(0)
	u.total.Store(list.size())
	u.log.Info("fetching the model", "from", config.MaskQuery(u.url), "to", u.to, "files", len(list.files), "bytes", list.size())
	st := &stamp{Version: list.version, SHA256: list.sha256}
	for i := range list.files {
		if err := u.bring(ctx, w, &list.files[i], st); err != nil {
			return err
		}
	}
	u.set(stateUnpacking, "putting it into its place")
	if err := u.finish(ctx, w, p, st); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return final(err)
	}
	u.log.Info("the model is ready", "to", u.to, "bytes", u.done.Load(), "files", st.Count, "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}
