//! What the operator may ask, as facts for the policy and answers for the operator.

use std::time::Duration;

use steadfast_config::effective;
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::{PoolId, SlotId};
use steadfast_policy::policy::Policy;
use steadfast_proto::control::{Answer, BreakerAction, QuarantineAction, Refusal, Request};
use steadfast_proto::exit::ExitCode;

use crate::control::followers;
use crate::front::{settings, tell};
use crate::pools::Pool;
use crate::reload::{Source, reload};
use crate::senders::begin_stop;
use crate::shell::Shell;
use crate::status;

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// It is answered at once.
    Answer(Answer),
    /// Several answers, at once.
    Answers(Vec<Answer>),
    /// These answers, and then every event about this pool that comes.
    Follow(Vec<Answer>, Option<String>),
    /// The status is told when the front has answered this report.
    Report(u64, Option<String>),
    /// The answer comes when these pools' reload is over.
    Wait(Vec<PoolId>, Option<Duration>),
}

fn done(text: impl Into<String>) -> Result<Reaction, Refusal> {
    Ok(Reaction::Answer(Answer::Done { text: text.into() }))
}

/// Carries out a request.
pub(crate) fn carry_out(shell: &mut Shell, policy: &Policy, source: &mut Source, request: Request) -> Reaction {
    let reaction = match request.pool() {
        Some(name) if shell.pools.named(name).is_none() && !matches!(request, Request::Reload { .. }) => {
            Err(unknown(shell, name))
        }
        _ => react(shell, policy, source, request),
    };
    reaction.unwrap_or_else(|refusal| Reaction::Answer(Answer::Error(refusal)))
}

fn react(shell: &mut Shell, policy: &Policy, source: &mut Source, request: Request) -> Result<Reaction, Refusal> {
    match request {
        Request::Status { pool } => {
            if let Some(number) = tell::report(shell) {
                return Ok(Reaction::Report(number, pool));
            }
            let status = status::document(shell, policy, source.version(), pool.as_deref());
            Ok(Reaction::Answer(Answer::Status { status }))
        }
        Request::Events { n, follow, pool } => {
            let mut answers = followers::last(shell, usize::try_from(n).unwrap_or(usize::MAX), pool.as_deref());
            if follow {
                return Ok(Reaction::Follow(answers, pool));
            }
            answers.push(Answer::Done { text: String::new() });
            Ok(Reaction::Answers(answers))
        }
        Request::Reload { pool, wait, timeout_ms } => {
            let pools = reload(shell, source, pool.as_deref())?;
            if wait {
                return Ok(Reaction::Wait(pools, timeout_ms.map(Duration::from_millis)));
            }
            done(match pools.len() {
                1 => "1 pool is being reloaded".to_owned(),
                number => format!("{number} pools are being reloaded"),
            })
        }
        Request::Stop { pool: None } => {
            begin_stop(shell, "the operator's word");
            done(format!("stopping the supervisor and {}", workers(shell.workers.len())))
        }
        Request::Stop { pool: Some(pool) } => {
            let id = of_name(shell, &pool)?;
            shell.facts.push_back(Fact::StopRequested { pool: id });
            let number = policy.view(shell.now).pool(id).map_or(0, |pool| pool.counts().total);
            done(format!("{pool}: stopping {}", workers(number as usize)))
        }
        Request::Start { pool } => {
            order(shell, &pool, |pool| Fact::StartRequested { pool })?;
            done(format!("{pool}: starting"))
        }
        Request::Restart { pool } => {
            order(shell, &pool, |pool| Fact::RestartRequested { pool })?;
            done(format!("{pool}: restarting"))
        }
        Request::Scale { pool, min, max } => {
            order(shell, &pool, |pool| Fact::ScaleRequested { pool, min, max })?;
            done(format!("{pool}: {min} to {max} workers, until the next reload"))
        }
        Request::Drain { pool, slot } => {
            seat(shell, policy, &pool, slot)?;
            order(shell, &pool, |pool| Fact::DrainRequested { pool, slot: SlotId(slot) })?;
            done(format!("{pool}/{slot}: leaves when it has finished, and is replaced"))
        }
        Request::Kill { pool, slot } => {
            seat(shell, policy, &pool, slot)?;
            order(shell, &pool, |pool| Fact::KillRequested { pool, slot: SlotId(slot) })?;
            done(format!("{pool}/{slot}: killed, and is replaced"))
        }
        Request::Config => {
            let running = shell.pools.iter().filter(|pool| !pool.is_leaving);
            let text = |pool: &Pool| effective::text(&effective::pool_values(&pool.plan.config));
            let mut supervisor = Some(effective::text(&effective::supervisor_values(&source.supervisor)));
            let answer = |pool: &Pool| Answer::Config {
                pool: pool.name.to_string(),
                text: text(pool),
                supervisor: supervisor.take(),
            };
            let mut answers: Vec<Answer> = running.map(answer).collect();
            answers.push(Answer::Done { text: String::new() });
            Ok(Reaction::Answers(answers))
        }
        Request::Quarantine { pool, action } => quarantine(shell, policy, &pool, action),
        Request::Breaker { pool, action } => {
            order(shell, &pool, |pool| match action {
                BreakerAction::Reset => Fact::BreakerResetRequested { pool },
                BreakerAction::Trip => Fact::BreakerTripRequested { pool },
            })?;
            done(match action {
                BreakerAction::Reset => {
                    format!("{pool}: the breaker is closed, workers start at once")
                }
                BreakerAction::Trip => format!("{pool}: the breaker is open"),
            })
        }
    }
}

fn quarantine(shell: &mut Shell, policy: &Policy, name: &str, action: QuarantineAction) -> Result<Reaction, Refusal> {
    let id = of_name(shell, name)?;
    if !shell.pools.get(id).is_some_and(|pool| settings::is_queued(&pool.plan.config)) {
        let message = format!("`{name}` is in direct mode: nobody sees its requests, and none is quarantined");
        return Err(Refusal::new(ExitCode::Failed, message));
    }
    let requests = status::quarantine(shell, policy, id);
    match action {
        QuarantineAction::List => Ok(Reaction::Answer(Answer::Quarantine { requests })),
        QuarantineAction::Clear => {
            order(shell, name, |pool| Fact::QuarantineClearRequested { pool })?;
            done(match requests.len() {
                0 => format!("{name}: nothing is quarantined; suspects are forgotten"),
                1 => format!("{name}: 1 request is given to workers again"),
                number => format!("{name}: {number} requests are given to workers again"),
            })
        }
    }
}

fn workers(number: usize) -> String {
    if number == 1 { "1 worker".to_owned() } else { format!("{number} workers") }
}

fn order(shell: &mut Shell, name: &str, fact: impl FnOnce(PoolId) -> Fact) -> Result<(), Refusal> {
    if shell.is_stopping {
        return Err(Refusal::new(ExitCode::Failed, "the supervisor is stopping"));
    }
    let pool = of_name(shell, name)?;
    shell.facts.push_back(fact(pool));
    Ok(())
}

fn of_name(shell: &Shell, name: &str) -> Result<PoolId, Refusal> {
    shell.pools.named(name).map(|pool| pool.id).ok_or_else(|| unknown(shell, name))
}

fn unknown(shell: &Shell, name: &str) -> Refusal {
    let names: Vec<&str> = shell.pools.names().map(|(name, _)| &**name).collect();
    Refusal::new(ExitCode::Failed, format!("no pool `{name}`")).with_hint(format!("pools: {}", names.join(", ")))
}

fn seat(shell: &Shell, policy: &Policy, name: &str, slot: u32) -> Result<(), Refusal> {
    let id = of_name(shell, name)?;
    let view = policy.view(shell.now);
    let taken: Vec<u32> = view.pool(id).iter().flat_map(|pool| pool.slots()).map(|seat| seat.slot.0).collect();
    if taken.contains(&slot) {
        return Ok(());
    }
    let shown: Vec<String> = taken.iter().take(16).map(ToString::to_string).collect();
    Err(Refusal::new(ExitCode::Failed, format!("no worker sits in slot {slot} of `{name}`"))
        .with_hint(format!("slots with workers: {}", shown.join(", "))))
}
