//! Asserts the laws that wait: what must have happened by now, and how often.

use steadfast_policy::figures::{Launch, Mode};
use steadfast_policy::ids::{GenerationId, PoolId};
use steadfast_policy::policy::Policy;
use steadfast_policy::time::Instant;
use steadfast_policy::view::BreakerState;

use crate::agenda::{MILLI, Nanos, SECOND};
use crate::book::{Book, Page};
use crate::case::{Act, Case, Choice, Profile};
use crate::law::{Breach, Law};

/// The policy may be so late by its own figures (a deadline is met when it is told the time).
const SLACK: Nanos = 200 * MILLI;

/// After a stop's deadline: KILL, and a second for what KILL does not remove.
const STOP_SLACK: Nanos = 15 * SECOND;

/// All is well again so long after the last fault.
const RECOVERY: Nanos = 200 * SECOND;

/// What is remembered of one pool from step to step.
#[derive(Clone, Copy, Debug)]
struct Seen {
    breaker: BreakerState,
    /// The trial worker of the open breaker.
    canary: Option<usize>,
    /// When the breaker opened.
    opened: Nanos,
    /// The generation for which the breaker opened.
    failing: Option<GenerationId>,
    /// It has passed, and slots are being filled again.
    passed: bool,
    /// Since when nothing serves and the breaker is open.
    dark_since: Option<Nanos>,
    /// Since when workers are missing and none was started.
    short_since: Option<Nanos>,
    /// Since when somebody waits and could be helped.
    need_since: Option<Nanos>,
}

impl Seen {
    /// The trial worker has passed once it has served twenty requests or lived for half a minute.
    fn note_passing(&mut self, now: Nanos, book: &Book, page: &Page) {
        if self.passed || self.breaker == BreakerState::Closed {
            return;
        }
        let passes = |w: usize| {
            let known = &book.known[w];
            let served = |ready| now >= ready + 30 * SECOND || known.served >= 20 || served_since(page, ready) >= 20;
            !known.gone && known.ready.is_some_and(served)
        };
        self.passed = match self.canary {
            Some(canary) => passes(canary),
            // The trial may be a worker that was under way when the breaker opened.
            None => page.live.iter().any(|&w| {
                let known = &book.known[w];
                Some(known.generation) == self.failing && known.ready >= Some(self.opened) && passes(w)
            }),
        };
    }
}

/// The laws that wait.
#[derive(Debug)]
pub(crate) struct Watch {
    profile: Profile,
    seen: Vec<Seen>,
    steps: u64,
    second: Nanos,
    wakes: u32,
    orders: usize,
    horizon: Nanos,
    /// Nothing happens after the faults have ended, and no operator holds the breaker open.
    quiet_after_calm: bool,
    /// The end of the last stall, which may be later than the calm.
    faultless: Nanos,
}

fn breach(law: Law, now: Nanos, detail: String) -> Result<(), Breach> {
    Err(Breach { law, at: now, detail })
}

impl Watch {
    pub(crate) fn new(case: &Case) -> Watch {
        let seen = Seen {
            breaker: BreakerState::Closed,
            canary: None,
            opened: 0,
            failing: None,
            passed: false,
            dark_since: None,
            short_since: None,
            need_since: None,
        };
        let quiet_after_calm = case.calm.is_some_and(|calm| {
            let quiet = |choice: &Choice| choice.at < calm && !matches!(choice.act, Act::Trip);
            case.choices.iter().all(quiet)
        });
        let stalled = case.choices.iter().filter_map(|choice| match choice.act {
            Act::Stall(wait) => Some((choice.at + wait) * MILLI),
            _ => None,
        });
        let faultless = stalled.max().unwrap_or(0);
        Watch {
            profile: case.profile,
            seen: vec![seen; case.pools.len()],
            steps: 0,
            second: 0,
            wakes: 0,
            orders: 0,
            horizon: case.horizon * MILLI,
            quiet_after_calm,
            faultless,
        }
    }

    /// Whether the breaker was closed before this step.
    pub(crate) fn was_closed(&self, pool: PoolId) -> bool {
        self.seen[pool.0 as usize].breaker == BreakerState::Closed
    }

    /// The breaker opened for this generation; a rollout to another one goes its own way.
    pub(crate) fn opened(&mut self, pool: PoolId, generation: GenerationId) {
        self.seen[pool.0 as usize].failing = Some(generation);
    }

    /// The breaker closed, earlier in this step.
    pub(crate) fn closed(&mut self, pool: PoolId) {
        self.seen[pool.0 as usize].breaker = BreakerState::Closed;
    }

    /// A worker was started in this step.
    pub(crate) fn started(&mut self, now: Nanos, book: &Book, w: usize) -> Result<(), Breach> {
        let known = &book.known[w];
        let page = &book.pages[known.pool];
        let seen = &mut self.seen[known.pool];
        seen.short_since = None;
        self.judge_start_rate(now, page)?;
        let seen = &mut self.seen[known.pool];
        let line_served = page.lines.iter().any(|line| line.number == known.generation && line.served > 0);
        seen.note_passing(now, book, page);
        // A direct generation that has served is throttled, not held, and ten seconds of life are evidence of that.
        let throttled = page.figures.mode == Mode::Direct && (line_served || page.has_served);
        if seen.breaker == BreakerState::Closed {
            return Ok(());
        }
        if seen.failing != Some(known.generation) {
            return Ok(());
        }
        if throttled {
            return Ok(());
        }
        let Some(canary) = seen.canary.filter(|_| !seen.passed).map(|canary| &book.known[canary]) else {
            seen.canary = Some(w);
            return Ok(());
        };
        if canary.gone || canary.leaving.is_some() || canary.generation != known.generation {
            seen.canary = Some(w);
            return Ok(());
        }
        breach(Law::CanaryAlone, now, format!("Worker {} beside worker {}.", known.id, canary.id))
    }

    fn judge_start_rate(&self, now: Nanos, page: &Page) -> Result<(), Breach> {
        let dead = page.served.is_empty() && page.serving == 0 && page.none_since + 60 * SECOND <= now;
        if !dead || now < 60 * SECOND || !page.asks.is_empty() {
            return Ok(());
        }
        let bound = 2 * page.max_seen as usize + 20 + 2 * page.blameless.len();
        let starts = page.starts.len();
        match starts > bound {
            true => breach(Law::StartRate, now, format!("{starts} of at most {bound} in a minute.")),
            false => Ok(()),
        }
    }

    /// After the policy has answered a fact.
    pub(crate) fn step(
        &mut self,
        now: Nanos,
        book: &mut Book,
        policy: &Policy,
        woken: bool,
        orders: usize,
    ) -> Result<(), Breach> {
        self.steps += 1;
        if woken && policy.next_deadline().is_some_and(|at| at.as_nanos() <= now) {
            return breach(Law::DeadlineAhead, now, String::new());
        }
        self.judge_haste(now, book, woken, orders)?;
        let view = policy.view(Instant::from_nanos(now));
        for pool in 0..book.pages.len() {
            let Some(shown) = view.pool(PoolId(pool as u32)) else {
                continue;
            };
            let breaker = shown.breaker();
            let seen = &mut self.seen[pool];
            let was = std::mem::replace(&mut seen.breaker, breaker.state);
            if was != breaker.state && breaker.state == BreakerState::Open {
                (seen.canary, seen.passed, seen.opened) = (None, false, now);
            }
            seen.note_passing(now, book, &book.pages[pool]);
            if let Some(until) = breaker.until.filter(|_| breaker.state == BreakerState::Open) {
                let until = until.as_nanos();
                let over = until + SECOND < now && !book.was_late_since(until) && book.shutdown.is_none();
                // A late turn moves the deadline.
                let far = until > now + 61 * SECOND && book.lates.is_empty();
                if (over || far) && book.pages[pool].stop.is_none() {
                    return breach(Law::OpenLimit, now, format!("Until {} s.", until / SECOND));
                }
            }
            self.judge_fallback(now, book, pool, breaker.state)?;
            if woken {
                self.judge_leaving(now, book, pool)?;
                judge_rests(now, book, pool)?;
            }
            self.judge_pace(now, book, pool, breaker.state)?;
            if self.steps.is_multiple_of(16) {
                let live = &book.pages[pool].live;
                let lost = live.iter().filter(|&&w| book.known[w].killed.is_some_and(|at| at + SECOND < now));
                // After a stop the policy may forget those that nothing removes.
                let (shown, least) = (shown.counts().total as usize, live.len() - lost.count());
                if shown < least || shown > live.len() {
                    return breach(Law::CountsAgree, now, format!("{shown} instead of {}.", live.len()));
                }
            }
        }
        Ok(())
    }

    fn judge_haste(&mut self, now: Nanos, book: &Book, woken: bool, orders: usize) -> Result<(), Breach> {
        if now / SECOND != self.second {
            (self.second, self.wakes, self.orders) = (now / SECOND, 0, 0);
        }
        self.wakes += u32::from(woken);
        self.orders += orders;
        let workers: usize = book.pages.iter().map(|page| page.live.len() + page.max_seen as usize).sum();
        let (wakes, orders) = (60 + 8 * workers, 300 + 50 * workers);
        match self.wakes as usize > wakes || self.orders > orders {
            true => {
                breach(Law::NoLivelock, now, format!("{} wakes and {} orders in a second.", self.wakes, self.orders))
            }
            false => Ok(()),
        }
    }

    fn judge_fallback(&mut self, now: Nanos, book: &Book, pool: usize, breaker: BreakerState) -> Result<(), Breach> {
        let page = &book.pages[pool];
        if page.fallback && page.serving > 0 {
            return breach(Law::FallbackOff, now, format!("{} serve.", page.serving));
        }
        let seen = &mut self.seen[pool];
        let dark = breaker != BreakerState::Closed
            && page.serving == 0
            && (page.figures.min > 0 || page.waiting > 0)
            // Overdue workers are killed one a second, and hold their visitors until then.
            && !page.live.iter().any(|&w| book.known[w].overdue && book.known[w].killed.is_none())
            && page.figures.mode == Mode::Queue
            && page.stop.is_none()
            && book.shutdown.is_none();
        if !dark || page.fallback {
            seen.dark_since = None;
            return Ok(());
        }
        let since = *seen.dark_since.get_or_insert(now.max(page.none_since));
        match book.patience(since, now) > 500 * MILLI + SLACK {
            true => breach(Law::FallbackOn, now, format!("Dark for {} ms.", (now - since) / MILLI)),
            false => Ok(()),
        }
    }

    fn judge_leaving(&self, now: Nanos, book: &Book, pool: usize) -> Result<(), Breach> {
        let page = &book.pages[pool];
        let stop_timeout = page.figures.stop_timeout.as_nanos() as Nanos;
        for &w in &page.leaving {
            let known = &book.known[w];
            if known.killed.is_some() {
                continue;
            }
            let Some(leaving) = known.leaving else { continue };
            if known.termed.is_some() && book.patience(known.termed_last, now) > SECOND + SLACK {
                return breach(Law::TermAgain, now, format!("Worker {}.", known.id));
            }
            let since = book.patience(leaving, now);
            let word = known.word.is_some_and(|at| book.patience(at, now) > 10 * SECOND + SLACK);
            if known.word.is_none() && since > stop_timeout + SLACK || word {
                return breach(Law::KillComes, now, format!("Worker {}.", known.id));
            }
        }
        let ready_timeout = page.figures.ready_timeout.as_nanos() as Nanos;
        let verify_timeout = page.figures.verify_timeout.as_nanos() as Nanos;
        for &w in &page.starting {
            let known = &book.known[w];
            let late = match (known.ready, known.verifying) {
                (None, _) => book.patience(known.started, now) > ready_timeout + SLACK,
                (Some(_), Some(at)) => book.patience(at, now) > verify_timeout + SLACK,
                (Some(_), None) => false,
            };
            if late {
                return breach(Law::ReadyTimeout, now, format!("Worker {}.", known.id));
            }
        }
        match page.stop.filter(|_| !page.restarting && !page.stopped) {
            Some(at) if book.patience(at, now) > stop_timeout + STOP_SLACK => {
                breach(Law::StopEnds, now, format!("Pool {pool}, {} live.", page.live.len()))
            }
            _ => Ok(()),
        }
    }

    /// What must be started in time.
    fn judge_pace(&mut self, now: Nanos, book: &Book, pool: usize, breaker: BreakerState) -> Result<(), Breach> {
        let page = &book.pages[pool];
        let seen = &mut self.seen[pool];
        let running = page.stop.is_none() && book.shutdown.is_none();
        // Where an older generation fails too since the reload began, it is the environment, and there is no way back;
        // nor is there one from a proven generation.
        let older = page.lines.split_last().map_or(&[][..], |(_, older)| older);
        let environment = older.iter().any(|line| line.failures > 0 && line.failed >= page.reloaded);
        if self.profile == Profile::Deploys
            && running
            && !environment
            && !page.lines.iter().skip(1).any(|line| line.proven)
            && page.has_served
            && page.figures.min > 0
            && page.serving == 0
            && book.patience(page.none_since, now) > 60 * SECOND
        {
            return breach(Law::DeployDown, now, String::new());
        }
        let short = (page.live.len() as u32) < page.figures.min && running && page.starting.is_empty();
        let served = page.lines.last().is_some_and(|line| line.served > 0);
        if self.profile == Profile::Productive && short && served {
            let since = *seen.short_since.get_or_insert(now);
            if book.patience(since, now) > 5 * SECOND + SLACK {
                return breach(Law::Throttle, now, format!("{} live.", page.live.len()));
            }
        } else {
            seen.short_since = None;
        }
        let need = page.waiting > 0
            && running
            && page.starting.is_empty()
            && page.figures.launch == Launch::Exec
            && breaker == BreakerState::Closed
            && (page.live.len() as u32) < page.figures.max
            && page.failures.is_empty()
            && page.blameless.is_empty()
            && page.asks.is_empty();
        if need {
            let since = *seen.need_since.get_or_insert(now);
            if book.patience(since, now) > 2 * SECOND {
                return breach(Law::Growth, now, format!("{} wait, {} live.", page.waiting, page.live.len()));
            }
        } else {
            seen.need_since = None;
        }
        Ok(())
    }

    /// At the end of the world.
    pub(crate) fn finish(&self, now: Nanos, book: &Book, policy: &Policy, finished: bool) -> Result<(), Breach> {
        if let Some(at) = book.shutdown {
            let longest = book.pages.iter().map(|page| page.figures.stop_timeout.as_nanos() as Nanos).max();
            let end = longest.unwrap_or(0) + STOP_SLACK;
            let now = now.max(self.horizon);
            return match !finished && book.patience(at, now) > end {
                true => breach(Law::StopEnds, now, "No end of all.".into()),
                false => Ok(()),
            };
        }
        let Some(calm) = book.calm.filter(|_| self.quiet_after_calm) else {
            return Ok(());
        };
        if finished || self.horizon < calm.max(self.faultless) + RECOVERY {
            return Ok(());
        }
        let view = policy.view(Instant::from_nanos(now));
        for (pool, page) in book.pages.iter().enumerate() {
            let Some(shown) = view.pool(PoolId(pool as u32)) else {
                continue;
            };
            if page.stop.is_some() && !page.restarting {
                continue;
            }
            let breaker = shown.breaker().state;
            let least = page.figures.min;
            if page.serving < least || breaker != BreakerState::Closed || page.fallback {
                let detail = format!("Pool {pool}: {} of {least} serve, breaker {}.", page.serving, breaker.word());
                return breach(Law::Recovers, now, detail);
            }
        }
        Ok(())
    }
}

/// Requests told as served since then (of the last minute at least).
fn served_since(page: &Page, since: Nanos) -> u64 {
    page.served.iter().filter(|(at, _)| *at >= since).map(|(_, count)| count).sum()
}

/// Managers that rest are let go on in time.
fn judge_rests(now: Nanos, book: &Book, pool: usize) -> Result<(), Breach> {
    let rests = |w: &usize| book.known[*w].leaving.is_none() && book.known[*w].killed.is_none();
    for &w in book.pages[pool].live.iter().filter(|w| rests(w)) {
        let known = &book.known[w];
        if known.rests_until.is_some_and(|until| until < now && book.patience(until, now) > SECOND + SLACK) {
            return breach(Law::RestsEnd, now, format!("Worker {}.", known.id));
        }
    }
    Ok(())
}
