//! `steadfast bench`: measures an address under load, and not itself: one thread, one write and one read a request.

mod connection;
mod load;
mod plan;
mod poller;
mod report;
mod tally;

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use steadfast_proto::exit::ExitCode;

use self::load::Order;
use self::plan::{Plan, Wish};
use self::report::{Report, Setting};
use crate::exchange::dial::{self, Target};
use crate::exchange::options::Bench;
use crate::exchange::reader::Reader;
use crate::failure::{Failure, reason};
use crate::output;

/// Without `-d` and `-n`.
const DURATION: Duration = Duration::from_secs(10);

pub(super) fn bench(bench: &Bench) -> Result<ExitCode, Failure> {
    let address = &bench.asked.address;
    let connections = bench.connections()?;
    let question = bench.asked.question(bench.is_kept())?;
    let request = question.bytes(address).map_err(|why| {
        Failure::new(ExitCode::Usage, format!("the request for {address} cannot be sent as FastCGI: {why}"))
            .hint("send less of it")
    })?;
    load::make_room(connections).map_err(|most| {
        let message = format!("{connections} connections need more open files than this user may have");
        Failure::new(ExitCode::Failed, message).hint(format!("take at most {most}, or raise the limit: `ulimit -Hn`"))
    })?;
    let (target, first) = first_connection(bench)?;
    // The kernel otherwise rounds every short wait up by 50 µs. Refused: the waits are that much longer.
    let _rounded = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let duration = bench.duration.or(if bench.requests.is_none() { Some(DURATION) } else { None });
    let wish = Wish { rate: bench.rate, warmup: bench.warmup.unwrap_or_default(), duration, requests: bench.requests };
    let order = Order {
        target,
        first,
        request: &request,
        connections,
        is_kept: bench.is_kept(),
        is_closed_loop: bench.rate.is_none(),
        is_idempotent: question.is_idempotent(),
        timeout: bench.asked.timeout,
        new_reader: &|| Reader::new(address.protocol, question.is_head()),
    };
    let (begun, cpu) = (Instant::now(), cpu());
    let outcome = load::run(order, Plan::new(wish, begun)).map_err(|error| {
        Failure::new(ExitCode::System, format!("cannot go on measuring {address}: {}", reason(&error)))
            .hint("take fewer connections with -c")
    })?;
    let cpu = self::cpu().saturating_sub(cpu).as_secs_f64() / begun.elapsed().as_secs_f64().max(0.001);
    let setting = Setting {
        address: address.to_string(),
        path: question.target.clone(),
        method: question.method.clone(),
        connections,
        keep_alive: bench.is_kept(),
        rate: bench.rate,
        request_bytes: request.len(),
    };
    let report = Report { setting, outcome, cpu };
    output::result(&if bench.json { report.json()? } else { report.text(output::stdout_style()) })?;
    Ok(if report.outcome.tally.good.total() > 0 { ExitCode::Good } else { ExitCode::Failed })
}

/// The first of what the address stands for that takes a connection. It is used for the first request: one that says
/// nothing would cost a libfcgi worker two seconds.
fn first_connection(bench: &Bench) -> Result<(Target, OwnedFd), Failure> {
    let address = &bench.asked.address;
    let mut last = Errno::CONNREFUSED;
    for target in dial::targets(address)? {
        match target.connect_within(bench.asked.timeout) {
            Ok(socket) => return Ok((target, socket)),
            Err(errno) => last = errno,
        }
    }
    Err(dial::failure(address, last))
}

/// Processor time that this process has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
