package agent

import (
	"context"
	"fmt"
	"strconv"

	"github.com/inpod/inpod/boot/seed"
	"github.com/inpod/inpod/config"
)

// seedStep fills empty volumes.
type seedStep struct {
	*board
	a   *agent
	cfg *config.Config
}

func (a *agent) seedStep(l *loaded) step {
	if len(l.cfg.Seed) == 0 {
		return nil
	}
	names := make([]string, len(l.cfg.Seed))
	for i, s := range l.cfg.Seed {
		names[i] = s.To
	}
	return &seedStep{board: newBoard("seed", names), a: a, cfg: l.cfg}
}

// run implements step.
func (s *seedStep) run(ctx context.Context) error {
	for i, one := range s.cfg.Seed {
		s.begin(i)
		progress := &seed.Progress{}
		result, err := s.fill(ctx, one, progress)
		log := s.a.log.With("from", one.From, "to", one.To)
		switch {
		case ctx.Err() != nil:
			s.end(i, itemFailed, "interrupted; the next start goes on")
			log.Warn("filling a volume was interrupted; the next start goes on", "copied", progress.Text())
			return context.Cause(ctx)
		case err != nil && one.Required:
			s.end(i, itemFailed, err.Error())
			return err
		case err != nil:
			s.end(i, itemFailed, err.Error())
			log.Error("cannot fill a volume; the start goes on without", "error", err)
		case result == seed.HadData:
			s.end(i, itemSkipped, result.String())
			log.Info("a volume is left alone", "reason", result.String())
		default:
			s.end(i, itemDone, result.String()+": "+progress.Text())
			log.Info("a volume was filled", "result", result.String(), "copied", progress.Text())
		}
	}
	return nil
}

func (s *seedStep) fill(ctx context.Context, one config.Seed, progress *seed.Progress) (seed.Result, error) {
	opt := seed.Options{From: one.From, To: one.To, UID: seed.Unchanged, GID: seed.Unchanged, Mode: seed.Unchanged, Progress: progress}
	if one.Mode != "" {
		opt.Mode, _ = strconv.ParseInt(one.Mode, 8, 64) // config has looked at it
	}
	if one.Owner != "" {
		acc, err := s.a.userMaker(s.cfg).Lookup(one.Owner)
		if err != nil {
			return seed.HadData, fmt.Errorf("cannot fill %q: seed[].owner: %w", one.To, err)
		}
		opt.UID, opt.GID = acc.UID, acc.GID
	}
	return seed.Fill(ctx, opt)
}
