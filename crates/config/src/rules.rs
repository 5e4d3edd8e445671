//! What must fit between values, and between pools: addresses, exit codes, who may connect.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use crate::report::Findings;
use crate::types::{Breaker, Config, Kind, Launch, Listen, Mode, Pass, Pool};

/// Checks a configuration of which each value is good by itself. Values that are already known to be wrong are left out.
pub(crate) fn check(config: &Config, findings: &mut Findings) {
    for pool in config.pools.values() {
        let path = format!("pool.{}", pool.name);
        check_sockets(pool, &path, config.is_typed(), findings);
        if pool.mode == Mode::Queue && !findings.is_broken(&format!("{path}.mode")) {
            check_queue(pool, &path, findings);
        }
        check_launch(pool, &path, findings);
        if pool.pass == Pass::ServerStarter && !findings.is_broken(&format!("{path}.pass")) {
            check_starter(pool, &path, findings);
        }
        check_verify(pool, &path, findings);
        check_breaker(&pool.breaker, &path, findings);
        check_codes(pool, &path, findings);
        if pool.user.as_deref() == Some("root") {
            findings.warning(
                &format!("{path}.user"),
                format!("the workers of pool `{}` run as root: one fault in them gives the machine away", pool.name),
                Some("a user of its own, or \"www-data\"".into()),
            );
        }
    }
    check_addresses(config, findings);
}

/// A forked worker cannot be given what sd_listen_fds(3) tells by a pid. A worker that runs CGI programs has nothing to load,
/// and runs one at a time.
fn check_launch(pool: &Pool, path: &str, findings: &mut Findings) {
    let (launch, pass, kind) = (format!("{path}.launch"), format!("{path}.pass"), format!("{path}.type"));
    if pool.kind == Kind::Cgi && !findings.is_broken(&kind) {
        if pool.launch == Launch::Zygote && !findings.is_broken(&launch) {
            findings.error(
                &launch,
                "a CGI program is started anew for each request: no zygote can load it before",
                Some("leave `launch` out".into()),
            );
        }
        let concurrency = format!("{path}.concurrency");
        if pool.concurrency != 1 && !findings.is_broken(&concurrency) {
            findings.error(
                &concurrency,
                "a worker that runs a CGI program takes one request at a time",
                Some("leave `concurrency` out, and say how many may run at once by `workers`".into()),
            );
        }
    }
    let is_known = !findings.is_broken(&launch) && !findings.is_broken(&pass);
    if pool.launch == Launch::Zygote && pool.pass != Pass::Stdin && is_known {
        findings.error(
            &pass,
            "a zygote's workers find their socket on fd 0: `launch = \"zygote\"` needs `pass = \"stdin\"`",
            Some("leave `pass` out".into()),
        );
    }
}

/// What knows Server::Starter speaks HTTP and manages workers of its own: the front cannot speak with it, and only a request
/// shows whether those workers live.
fn check_starter(pool: &Pool, path: &str, findings: &mut Findings) {
    let pass = format!("{path}.pass");
    if pool.mode == Mode::Queue && !findings.is_broken(&format!("{path}.mode")) {
        findings.error(
            &pass,
            "programs that know Server::Starter speak HTTP, and the front speaks FastCGI with workers",
            Some("add `mode = \"direct\"`: there the program itself accepts".into()),
        );
        return;
    }
    if pool.kind == Kind::Cgi && !findings.is_broken(&format!("{path}.type")) {
        findings.error(
            &pass,
            "a CGI program is run by a worker of ours, which finds its socket on fd 0",
            Some("leave `pass` out".into()),
        );
        return;
    }
    if pool.verify.is_none() && !findings.is_broken(&format!("{path}.verify")) {
        findings.error(
            &pass,
            "such a program starts workers of its own, and waits while they die: only a verify request shows whether they live",
            Some(format!("add `[{path}.verify]` with `request = \"GET /\"`")),
        );
    }
    let clients = format!("{path}.allowed-clients");
    if !pool.allowed_clients.is_empty() && !findings.is_broken(&clients) {
        findings.error(
            &clients,
            "`allowed-clients` is told to programs that speak FastCGI; this one speaks HTTP, and would let everybody in",
            Some("remove it, and let a firewall or the program itself see to it".into()),
        );
    }
}

fn check_sockets(pool: &Pool, path: &str, is_typed: bool, findings: &mut Findings) {
    let listen = format!("{path}.listen");
    let clients = format!("{path}.allowed-clients");
    let is_stdin =
        pool.mode == Mode::Direct && pool.pass == Pass::Stdin && !findings.is_broken(&format!("{path}.pass"));
    if is_stdin && pool.listen.len() > 1 && !findings.is_broken(&listen) {
        let count = pool.listen.len();
        let (message, hint) = if is_typed {
            (
                format!("stdin carries one socket, but there are {count} --listen"),
                "keep one, or write a configuration file with `pass = \"listen-fds\"` if the program knows sd_listen_fds(3)",
            )
        } else {
            (
                format!("`pass = \"stdin\"` carries one socket, but the pool listens on {count}"),
                "keep one address, or write `pass = \"listen-fds\"` if the program knows sd_listen_fds(3)",
            )
        };
        findings.error(&format!("{listen}[1]"), message, Some(hint.into()));
    }
    // The family of an inherited socket is known only when it is there.
    let has_tcp = pool.listen.iter().any(|listen| !matches!(listen, Listen::Unix(_)));
    if !pool.allowed_clients.is_empty() && !has_tcp && !findings.is_broken(&listen) {
        findings.error(
            &clients,
            "`allowed-clients` needs a TCP address in `listen`: a unix socket has a mode and an owner instead",
            Some("remove it, and use `socket = { mode = …, group = … }`".into()),
        );
    }
    for (index, address) in pool.listen.iter().enumerate() {
        if let Listen::Tcp(address) = address
            && !address.ip().to_canonical().is_loopback()
            && pool.pass != Pass::ServerStarter
            && pool.allowed_clients.is_empty()
            && !findings.is_broken(&clients)
        {
            let hint = if is_typed {
                "listen on 127.0.0.1, or write a configuration file with `allowed-clients`, which names the web servers"
            } else {
                "name the web servers: `allowed-clients = [\"192.0.2.1\"]`, or listen on 127.0.0.1"
            };
            findings.error(
                &format!("{listen}[{index}]"),
                format!("{address} is open to other machines, and FastCGI has no password"),
                Some(hint.into()),
            );
        }
    }
    for (index, address) in pool.listen.iter().enumerate() {
        if let Listen::Http(address) = address
            && pool.mode == Mode::Direct
            && pool.pass != Pass::ServerStarter
        {
            let hint = if is_typed { "leave --mode direct out" } else { "leave `mode = \"direct\"` out" };
            findings.error(
                &format!("{listen}[{index}]"),
                format!("http://{address} needs queue mode: in direct mode the workers accept, and they speak FastCGI"),
                Some(format!("{hint}, or listen on FastCGI alone")),
            );
        }
    }
    for (index, client) in pool.allowed_clients.iter().enumerate() {
        if matches!(client, IpAddr::V6(_)) && pool.mode == Mode::Direct {
            findings.warning(
                &format!("{clients}[{index}]"),
                format!("{client} is passed on, but FCGI_WEB_SERVER_ADDRS is IPv4 only in libfcgi, which then refuses every client"),
                Some("only programs with their own FastCGI library understand it".into()),
            );
        }
    }
}

/// What is told to the front of one pool fits one message of 64 KiB, and its sockets one row of fds.
fn check_queue(pool: &Pool, path: &str, findings: &mut Findings) {
    let too_many = [
        ("listen", "addresses", pool.listen.len(), ADDRESSES_OF_QUEUE_MAX),
        ("allowed-clients", "clients", pool.allowed_clients.len(), CLIENTS_OF_QUEUE_MAX),
    ];
    for (key, what, count, most) in too_many {
        let key = format!("{path}.{key}");
        if count > most && !findings.is_broken(&key) {
            let message = format!("{count} {what} are more than {most}, the most for a pool in queue mode");
            findings.error(&format!("{key}[{most}]"), message, None);
        }
    }
}

/// What goes with verify requests, and with HTTP.
fn check_verify(pool: &Pool, path: &str, findings: &mut Findings) {
    let params = format!("{path}.params");
    let length: usize = pool.params.iter().map(|(name, value)| name.len() + value.len()).sum();
    if length > PARAMS_BYTES_MAX && !findings.is_broken(&params) {
        let message = format!("`params` have {length} bytes together, but at most {PARAMS_BYTES_MAX} are possible");
        findings.error(&params, message, Some("workers take what never changes from `environment`".into()));
    }
    // Those of FastCGI requests are the web server's.
    let is_used = pool.verify.is_some() || pool.listen.iter().any(|listen| matches!(listen, Listen::Http(_)));
    let is_known = ["params", "listen", "verify"].iter().all(|key| !findings.is_broken(&format!("{path}.{key}")));
    if !pool.params.is_empty() && !is_used && is_known {
        findings.warning(
            &params,
            "`params` go with HTTP and verify requests only, and this pool has neither",
            Some("what FastCGI requests carry, the web server says: fastcgi_param and the like".into()),
        );
    }
    if let Some(verify) = &pool.verify
        && verify.method == "HEAD"
        && !verify.body.is_empty()
    {
        findings.error(
            &format!("{path}.verify.expect.body"),
            "the answer to a HEAD request has no body",
            Some("ask by GET, or expect the status alone".into()),
        );
    }
}

fn check_breaker(breaker: &Breaker, path: &str, findings: &mut Findings) {
    let backoff = format!("{path}.breaker.backoff");
    if breaker.backoff_first > breaker.backoff_max && !findings.is_broken(&backoff) {
        findings.error(
            &backoff,
            format!("backoff: first ({:?}) passes max ({:?})", breaker.backoff_first, breaker.backoff_max),
            Some("the first wait is the shortest".into()),
        );
    }
}

fn check_codes(pool: &Pool, path: &str, findings: &mut Findings) {
    let unavailable = format!("{path}.unavailable-codes");
    if findings.is_broken(&unavailable) || findings.is_broken(&format!("{path}.broken-codes")) {
        return;
    }
    for (index, code) in pool.unavailable_codes.iter().enumerate() {
        if pool.broken_codes.contains(code) {
            findings.error(
                &format!("{unavailable}[{index}]"),
                format!("exit code {code} stands in `broken-codes` too: it cannot mean both"),
                Some("broken: the generation is at fault; unavailable: a dependency is away".into()),
            );
        }
    }
}

/// The front's channel carries 64 fds at a time, one of them the fallback's.
const ADDRESSES_OF_QUEUE_MAX: usize = 63;
/// Each stands in the pool's message to the front.
const CLIENTS_OF_QUEUE_MAX: usize = 256;
/// Names and values; each byte may become two in the pool's message to the front.
const PARAMS_BYTES_MAX: usize = 8 * 1024;

/// More addresses of all pools together than this are a mistake; each is compared with all others.
const ADDRESSES_MAX: usize = 5_000;

/// No two sockets can have one address, in one pool or in two.
fn check_addresses(config: &Config, findings: &mut Findings) {
    let count: usize = config.pools.values().map(|pool| pool.listen.len()).sum();
    if count > ADDRESSES_MAX {
        let message = format!("{count} addresses are more than {ADDRESSES_MAX}, the most for one supervisor");
        findings.error("pool", message, Some("run several supervisors".into()));
        return;
    }
    let mut seen: Vec<(&str, &Listen)> = Vec::new();
    for pool in config.pools.values() {
        for (index, listen) in pool.listen.iter().enumerate() {
            let other = seen.iter().find(|(_, earlier)| are_same(earlier, listen));
            let path = format!("pool.{}.listen", pool.name);
            if let Some((other, _)) = other
                && !findings.is_broken(&path)
            {
                let by =
                    if *other == pool.name { "this pool already".to_owned() } else { format!("pool `{other}` too") };
                findings.error(
                    &format!("{path}[{index}]"),
                    format!("{listen} is listened on by {by}"),
                    Some("each address once".into()),
                );
            }
            seen.push((&pool.name, listen));
        }
    }
}

fn are_same(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Unix(one), Listen::Unix(other)) => plain(one) == plain(other),
        (Listen::Tcp(one) | Listen::Http(one), Listen::Tcp(other) | Listen::Http(other)) => overlap(one, other),
        (Listen::Fd(one), Listen::Fd(other)) => one == other,
        (Listen::Systemd(one), Listen::Systemd(other)) => one == other,
        (Listen::Unix(_) | Listen::Tcp(_) | Listen::Http(_) | Listen::Fd(_) | Listen::Systemd(_), _) => false,
    }
}

/// `0.0.0.0` takes every IPv4 address of its port, `[::]` every IPv6 one.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Without `.` and doubled slashes; `..` stays, it may follow a symlink.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}
