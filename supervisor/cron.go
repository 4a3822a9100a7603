package supervisor

import (
	"context"
	"time"

	"github.com/robfig/cron/v3"
)

// parseCron reads cron=: five fields, six with seconds first, or @daily and the like.
func parseCron(spec string) (cron.Schedule, error) {
	return cron.NewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor).Parse(spec)
}

// runCron starts the program at the times of its schedule. A time at which it still runs is left out.
func (p *process) runCron(ctx context.Context) {
	schedule, err := parseCron(p.cfg.Cron)
	if err != nil {
		p.log.Error("cannot read cron", "cron", p.cfg.Cron, "error", err)
		return
	}
	followCron(ctx, schedule, func() {
		if p.sup.held() {
			return
		}
		_ = p.ask(ctx, func() {
			if p.snap.Load().isStopped() {
				p.requestStart()
			}
		})
	})
}

// cronLook bounds one sleep, since a schedule is about the wall clock and that may be set meanwhile.
const cronLook = time.Hour

// followCron calls fire at the times of schedule until ctx ends.
func followCron(ctx context.Context, schedule cron.Schedule, fire func()) {
	next := schedule.Next(time.Now())
	for !next.IsZero() {
		// Round takes the monotonic reading away: the distance is the wall clock's.
		wait := next.Sub(time.Now().Round(0))
		timer := time.NewTimer(min(wait, cronLook))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if now := time.Now(); !now.Before(next) {
			fire()
			next = schedule.Next(now)
		}
	}
}
