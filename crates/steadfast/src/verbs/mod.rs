//! Which room does which verb.

mod bench;
mod cgi;
mod check;
mod completions;
mod config;
mod demo;
mod events;
mod front;
mod guard;
mod import;
mod init;
mod man;
mod order;
mod ping;
mod quarantine;
mod reload;
mod run;
mod snippet;
mod status;

use std::process;

use steadfast_proto::control::{BreakerAction, Request};
use steadfast_proto::exit::ExitCode;

use crate::arguments::{Action, Arguments, Check, Verb};
use crate::demo::worker;
use crate::failure::Failure;
use crate::places::Around;

/// Does what the arguments say and gives the exit code.
///
/// # Errors
/// What a person must be told, with the exit code.
pub(crate) fn perform(arguments: Arguments) -> Result<process::ExitCode, Failure> {
    let around = Around::here()?;
    let target = arguments.target;
    // `-t` is `check`; parsing has made sure that one of the two is there.
    let Some(verb) = arguments.verb else {
        return check::check(&Check::default(), &target, &around).map(number);
    };
    let order = |request: &Request| order::order(request, &target, &around).map(number);
    match verb {
        Verb::Demo(demo) => demo::demo(&demo, &target, &around).map(process::ExitCode::from),
        Verb::DemoWorker => Ok(worker::run()),
        Verb::Run(run) => run::run(run, target, &around).map(process::ExitCode::from),
        Verb::Cgi(arguments) => cgi::cgi(arguments),
        Verb::Check(check) => check::check(&check, &target, &around).map(number),
        Verb::Config(config) => config::config(&config, &target, &around).map(number),
        Verb::Status(status) => status::status(&status, &target, &around).map(number),
        Verb::Events(events) => events::events(&events, &target, &around).map(number),
        Verb::Reload(reload) => reload::reload(reload, &target, &around).map(number),
        Verb::Stop { pool } => order(&Request::Stop { pool }),
        Verb::Start { pool } => order(&Request::Start { pool }),
        Verb::Restart { pool } => order(&Request::Restart { pool }),
        Verb::Scale { pool, workers } => order(&Request::Scale { pool, min: workers.min, max: workers.max }),
        Verb::Drain { seat } => order(&Request::Drain { pool: seat.pool, slot: seat.slot }),
        Verb::Kill { seat } => order(&Request::Kill { pool: seat.pool, slot: seat.slot }),
        Verb::Quarantine(verb) => quarantine::quarantine(&verb, &target, &around).map(number),
        Verb::Guard(verb) => guard::guard(&verb, &target, &around).map(number),
        Verb::Front => front::front().map(number),
        Verb::Breaker { pool, action } => {
            let action = match action {
                Action::Reset => BreakerAction::Reset,
                Action::Trip => BreakerAction::Trip,
            };
            order(&Request::Breaker { pool, action })
        }
        Verb::Ping(ping) => ping::ping(&ping).map(number),
        Verb::Bench(bench) => bench::bench(&bench).map(number),
        Verb::Snippet(arguments) => snippet::snippet(&arguments, &target, &around).map(number),
        Verb::Init(arguments) => init::init(&arguments, &around).map(number),
        Verb::Import(arguments) => import::import(&arguments, &around).map(number),
        Verb::Completions { shell } => completions::completions(shell).map(number),
        Verb::Man { directory } => man::man(directory.as_deref()).map(number),
    }
}

fn number(code: ExitCode) -> process::ExitCode {
    code.number().into()
}
