//! Requests that were in the hands of workers that died: which of them are kept from workers, and for how long.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::backoff::doubled;
use crate::event::SuspectFacts;
use crate::ids::{GenerationId, RequestKey};
use crate::rules::{Rule, Rules};
use crate::time::Instant;

/// At most so many suspects; with more than that a pool has a broken program and no poisonous request.
const SUSPECTS_MAX: usize = 64;
/// Deaths within so long count together.
const MEMORY: Duration = Duration::from_secs(60);
/// Deaths within `MEMORY` that are enough.
const DEATHS: u32 = 2;
/// Successes for each death that acquit.
const SUCCESSES_PER_DEATH: u32 = 10;
/// Answers of another generation's workers that show whose fault the deaths are.
const OUTLIVED: u32 = 2;
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);

/// One request under suspicion.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    /// Workers that it has killed in all.
    pub(crate) kills: u32,
    /// Quarantined until then; past that one trial is let through.
    pub(crate) until: Option<Instant>,
    /// Deaths within `MEMORY` of the last one.
    recent: u32,
    last: Instant,
    /// Answers of workers that survived it, since the first recent death.
    successes: u32,
    /// Of those, by workers of another generation than `only`.
    elsewhere: u32,
    /// How often it has been quarantined.
    times: u32,
    /// Whose workers it has killed, if they were all of one generation.
    only: Option<GenerationId>,
}

impl Suspect {
    /// What is held against it. Whose workers it killed is of no use to a pool without a way back.
    pub(crate) fn facts(&self) -> SuspectFacts {
        let Suspect { kills, recent, last, successes, times, until, .. } = *self;
        SuspectFacts { kills, recent, last, successes, times, until }
    }
}

/// What a death or an answer means for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Count its successes from now on.
    Watch,
    /// Keep it from workers until then.
    Quarantine { kills: u32, until: Instant },
    /// Nothing is held against it any more.
    Release,
    /// No change.
    Nothing,
}

/// All suspects of a pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Suspects {
    by_key: BTreeMap<RequestKey, Suspect>,
}

impl Suspects {
    /// A worker of this generation died by its own doing with this request in hand. Names a suspect that was forgotten to
    /// make room, too.
    pub(crate) fn died(
        &mut self,
        now: Instant,
        key: RequestKey,
        of: GenerationId,
        rules: Rules,
    ) -> (Verdict, Option<RequestKey>) {
        if let Some(suspect) = self.by_key.get_mut(&key) {
            suspect.only = suspect.only.filter(|only| *only == of);
            return (self.died_again(now, key, rules), None);
        }
        let mut forgotten = None;
        if self.by_key.len() >= SUSPECTS_MAX && rules.hold(Rule::SuspectBound) {
            forgotten = self.forget_stale(now);
            if forgotten.is_none() {
                return (Verdict::Nothing, None);
            }
        }
        let fresh = Suspect {
            kills: 1,
            until: None,
            recent: 1,
            last: now,
            successes: 0,
            elsewhere: 0,
            times: 0,
            only: Some(of),
        };
        self.by_key.insert(key, fresh);
        (Verdict::Watch, forgotten)
    }

    fn died_again(&mut self, now: Instant, key: RequestKey, rules: Rules) -> Verdict {
        let Some(suspect) = self.by_key.get_mut(&key) else { return Verdict::Nothing };
        if now.since(suspect.last) >= MEMORY && suspect.times == 0 {
            suspect.recent = 0;
            suspect.successes = 0;
            suspect.elsewhere = 0;
        }
        suspect.kills = suspect.kills.saturating_add(1);
        suspect.recent = suspect.recent.saturating_add(1);
        suspect.last = now;
        let acquitted =
            suspect.successes >= SUCCESSES_PER_DEATH * (suspect.recent - 1) && rules.hold(Rule::SuspectAcquitted);
        // After the first quarantine each death is that of the trial, and one is enough.
        if suspect.times == 0 && (suspect.recent < DEATHS || acquitted) {
            return Verdict::Nothing;
        }
        let times = if rules.hold(Rule::QuarantineDoubles) { suspect.times } else { 0 };
        let until = now.after(doubled(FIRST, times, LONGEST));
        suspect.times = suspect.times.saturating_add(1);
        suspect.until = Some(until);
        Verdict::Quarantine { kills: suspect.kills, until }
    }

    /// A worker of this generation, where it is still known, answered this request and lived.
    pub(crate) fn served(&mut self, key: RequestKey, of: Option<GenerationId>, rules: Rules) -> Verdict {
        let Some(suspect) = self.by_key.get_mut(&key) else {
            return Verdict::Nothing;
        };
        suspect.successes = suspect.successes.saturating_add(1);
        if of.is_some() && of != suspect.only {
            suspect.elsewhere = suspect.elsewhere.saturating_add(1);
        }
        let passed_trial = suspect.times > 0;
        let acquitted = suspect.successes >= SUCCESSES_PER_DEATH * suspect.recent && rules.hold(Rule::SuspectAcquitted);
        if passed_trial || acquitted {
            self.by_key.remove(&key);
            return Verdict::Release;
        }
        Verdict::Nothing
    }

    /// Takes over what another policy held against a request.
    pub(crate) fn adopt(&mut self, key: RequestKey, facts: SuspectFacts) {
        let SuspectFacts { kills, recent, last, successes, times, until } = facts;
        let suspect = Suspect { kills, until, recent, last, successes, elsewhere: 0, times, only: None };
        self.by_key.insert(key, suspect);
    }

    /// Whether workers of this generation, and of no other, have died of the request again and again while others
    /// answered it.
    pub(crate) fn is_outlived(&self, key: RequestKey, generation: GenerationId) -> bool {
        let suspect = self.by_key.get(&key).filter(|suspect| suspect.only == Some(generation));
        suspect.is_some_and(|suspect| suspect.recent >= DEATHS && suspect.elsewhere >= OUTLIVED)
    }

    /// Whether it is one of them.
    pub(crate) fn contains(&self, key: RequestKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// Forgets those that have killed workers of this generation only, and names them.
    pub(crate) fn acquit(&mut self, generation: GenerationId) -> Vec<RequestKey> {
        let of = |suspect: &Suspect| suspect.only == Some(generation);
        let acquitted = self.by_key.iter().filter(|(_, suspect)| of(suspect)).map(|(key, _)| *key).collect();
        self.by_key.retain(|_, suspect| !of(suspect));
        acquitted
    }

    /// Forgets all and names them.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = RequestKey> + use<> {
        core::mem::take(&mut self.by_key).into_keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RequestKey, &Suspect)> {
        self.by_key.iter().map(|(key, suspect)| (*key, suspect))
    }

    /// Makes room by forgetting one whose deaths are too long ago to count.
    fn forget_stale(&mut self, now: Instant) -> Option<RequestKey> {
        let stale =
            self.by_key.iter().find(|(_, s)| now.since(s.last) >= MEMORY && s.until.is_none_or(|until| until <= now));
        let key = stale.map(|(key, _)| *key)?;
        self.by_key.remove(&key);
        Some(key)
    }
}
