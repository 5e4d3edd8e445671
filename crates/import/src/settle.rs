//! Makes a pool one that a configuration can say: names, variables that are steadfast's own, numbers within bounds.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::address;
use crate::draft::{Place, Pool, Workers};
use crate::name;

/// The most workers of one pool.
const WORKERS_MAX: u64 = 10_000;
/// The most requests that a worker is given.
const REQUESTS_MAX: u64 = 1_000_000_000;
/// The longest time, in seconds.
const SECONDS_MAX: u64 = 366 * 24 * 3600;
/// The resource limits that a pool has.
pub(crate) const LIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Variables that steadfast sets itself, or takes away.
const OURS: [&str; 7] = [
    "FCGI_WEB_SERVER_ADDRS",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "PHP_FCGI_CHILDREN",
    "STEADFAST_LINK",
];
/// The most addresses of one pool.
const ADDRESSES_MAX: usize = 63;

/// Brings every value into its bounds; what changes by that is noted.
pub(crate) fn settle(pool: &mut Pool) {
    let place = pool.place.clone();
    pool.name = name::settled(&pool.name);
    texts(pool, &place);
    variables(pool, &place);
    workers(pool, &place);
    addresses(pool, &place);
    numbers(pool, &place);
    modes(pool, &place);
    for (what, name) in [("user", pool.user.clone()), ("group", pool.group.clone())] {
        if name.is_some_and(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())) {
            pool.lost(&place, format!("the {what} is a number: write the name that it has"));
        }
    }
}

/// No text has a NUL byte, and a name is not empty.
fn texts(pool: &mut Pool, place: &Place) {
    let mut bad: Vec<String> = Vec::new();
    for word in pool.command.iter_mut().filter(|word| word.contains('\0')) {
        *word = word.replace('\0', "");
        bad.push(format!("{word:?} in the command had a NUL byte, which no argument can have"));
    }
    let socket = &mut pool.socket;
    let names = [
        ("directory", &mut pool.directory),
        ("user", &mut pool.user),
        ("group", &mut pool.group),
        ("socket's owner", &mut socket.owner),
        ("socket's group", &mut socket.group),
    ];
    for (what, name) in names {
        if let Some(text) = name.take_if(|text| text.is_empty() || text.contains('\0')) {
            bad.push(format!("the {what} {text:?} is none"));
        }
    }
    for text in bad {
        pool.lost(place, text);
    }
}

fn variables(pool: &mut Pool, place: &Place) {
    if let Some(children) = pool.environment.remove("PHP_FCGI_CHILDREN") {
        match children.trim().parse::<u64>() {
            Ok(0) => {}
            Ok(children) => {
                let processes = match pool.workers {
                    Some(Workers::Fixed(count)) => count,
                    Some(Workers::Range { max, .. }) => max,
                    None => 1,
                };
                pool.workers = Some(Workers::Fixed(children.saturating_mul(processes)));
                pool.word(place, format!("PHP_FCGI_CHILDREN={children}: steadfast starts the workers itself"));
            }
            Err(_) => pool.lost(place, format!("PHP_FCGI_CHILDREN={children:?} is no number: set `workers`")),
        }
    }
    if let Some(clients) = pool.environment.remove("FCGI_WEB_SERVER_ADDRS") {
        clients_from(pool, &clients, place);
    }
    let mut bad = Vec::new();
    let mut is_good = |name: &str, value: &str| {
        let is_ours = OURS.contains(&name);
        let is_none = name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
        if is_ours {
            bad.push(format!("{name} is steadfast's own to set"));
        } else if is_none {
            bad.push(format!("{name:?} cannot be a variable"));
        }
        !is_ours && !is_none
    };
    pool.environment.retain(|name, value| is_good(name, value));
    pool.pass_environment.retain(|name| is_good(name, ""));
    for text in bad {
        pool.lost(place, text);
    }
}

/// A list of addresses with commas between them.
pub(crate) fn clients_from(pool: &mut Pool, text: &str, place: &Place) {
    for client in text.split(',').map(str::trim).filter(|client| !client.is_empty()) {
        match client.parse::<IpAddr>() {
            Ok(ip) if !ip.is_unspecified() => pool.allowed_clients.push(ip.to_canonical().to_string()),
            _ => pool.lost(place, format!("the client {client:?} is no address in numbers")),
        }
    }
    pool.allowed_clients.sort();
    pool.allowed_clients.dedup();
    if pool.allowed_clients.len() > 256 {
        pool.allowed_clients.truncate(256);
        pool.lost(place, "more than 256 clients: the rest was left out");
    }
}

fn workers(pool: &mut Pool, place: &Place) {
    let (min, max) = match pool.workers {
        None => return,
        Some(Workers::Fixed(count)) => (count, count),
        Some(Workers::Range { min, max, .. }) => (min, max),
    };
    let (good_max, good_min) = (max.clamp(1, WORKERS_MAX), min.min(max.clamp(1, WORKERS_MAX)));
    if (min, max) != (good_min, good_max) {
        pool.lost(place, format!("{min} to {max} workers: a pool has 1 to {WORKERS_MAX}, and no less than its least"));
    }
    pool.workers = match pool.workers {
        Some(Workers::Range { idle, .. }) if good_min != good_max => {
            Some(Workers::Range { min: good_min, max: good_max, idle: idle.map(|idle| idle.clamp(1, SECONDS_MAX)) })
        }
        _ => Some(Workers::Fixed(good_max)),
    };
}

fn addresses(pool: &mut Pool, place: &Place) {
    each_once(&mut pool.listen);
    if pool.listen.len() > ADDRESSES_MAX {
        pool.listen.truncate(ADDRESSES_MAX);
        pool.lost(place, format!("more than {ADDRESSES_MAX} addresses: the rest was left out"));
    }
    let is_tcp = |listen: &String| !listen.starts_with("unix:");
    if !pool.allowed_clients.is_empty() && !pool.listen.iter().any(is_tcp) {
        pool.allowed_clients.clear();
        pool.word(place, "allowed clients have no meaning for a unix socket: its mode and owner say who may connect");
    }
    if !pool.allowed_clients.is_empty() {
        return;
    }
    let open: Vec<usize> = (0..pool.listen.len()).filter(|index| address::is_open(&pool.listen[*index])).collect();
    for index in open {
        let was = pool.listen[index].clone();
        let Some(now) = address::closed(&was) else { continue };
        pool.lost(
            place,
            format!(
                "{was} was open to other machines, and FastCGI has no password: it is {now} here; where a web server is \
                 elsewhere, write {was} and name it in `allowed-clients`"
            ),
        );
        pool.listen[index] = now;
    }
    each_once(&mut pool.listen);
}

fn each_once(addresses: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    addresses.retain(|address| seen.insert(address.clone()));
}

fn numbers(pool: &mut Pool, place: &Place) {
    let mut changed = Vec::new();
    let mut bound = |what: &str, value: &mut Option<u64>, most: u64| {
        if let Some(number) = value
            && (*number == 0 || *number > most)
        {
            changed.push(format!("{what} = {number} is not within 1 and {most}"));
            *value = None;
        }
    };
    bound("backlog", &mut pool.socket.backlog, 65_535);
    bound("max-requests", &mut pool.max_requests, REQUESTS_MAX);
    bound("request-timeout", &mut pool.request_timeout, SECONDS_MAX);
    bound("slow-request", &mut pool.slow_request, SECONDS_MAX);
    bound("stop-timeout", &mut pool.stop_timeout, SECONDS_MAX);
    for text in changed {
        pool.lost(place, text);
    }
    let is_possible = |amount: &Option<u64>| amount.is_none_or(|amount| i64::try_from(amount).is_ok());
    let is_good = |name: &String, amount: &mut Option<u64>| LIMITS.contains(&name.as_str()) && is_possible(amount);
    let limits = pool.rlimits.len();
    pool.rlimits.retain(is_good);
    if pool.rlimits.len() < limits {
        pool.lost(place, "a resource limit is more than any can be: it was left out");
    }
}

fn modes(pool: &mut Pool, place: &Place) {
    for what in ["umask", "socket's mode"] {
        let value = if what == "umask" { &mut pool.umask } else { &mut pool.socket.mode };
        let Some(text) = value.take() else { continue };
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 => *value = Some(format!("{mode:04o}")),
            _ => pool.lost(place, format!("the {what} {text:?} is not one of 0000 to 0777")),
        }
    }
}
