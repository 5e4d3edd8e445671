//! `steadfast snippet SERVER POOL`: the lines that make a web server ask a pool.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use steadfast_config::load;
use steadfast_config::types::{Config, Listen, Mode, Pool};
use steadfast_proto::exit::ExitCode;
use steadfast_supervisor::runtime_dir;

use crate::arguments::{Server, Snippet, Target};
use crate::failure::Failure;
use crate::output;
use crate::places::{self, Around};
use crate::verbs::run::broken;

pub(super) fn snippet(arguments: &Snippet, target: &Target, around: &Around) -> Result<ExitCode, Failure> {
    let file = places::configuration(target.config.as_deref(), around)?;
    // Whether this machine has the pool's users and programs is nothing to its web server.
    let config = load::load(&file, &around.context()).map_err(|report| broken(&report))?.config;
    let pool = pool_of(&config, &arguments.pool, &file.display().to_string())?;
    let address = address(pool, &runtime_dir::runtime_dir(&config, &around.directory)).ok_or_else(|| {
        let name = &pool.name;
        let why = "its file names no address for FastCGI; sockets of systemd and inherited ones have it elsewhere";
        Failure::new(ExitCode::Failed, format!("cannot tell how a web server reaches the pool {name}: {why}"))
            .hint("add an address to `listen`, such as \"unix:/run/site.sock\"")
    })?;
    if config.supervisor.runtime_dir.is_none() && !pool.listen.iter().any(is_absolute) {
        output::message(
            "warning: this socket is in the supervisor's runtime directory, which is another one under systemd\n\
             hint: write an absolute path into `listen`, such as \"unix:/run/site.sock\"\n",
        );
    }
    output::result(&lines(arguments.server, pool, &address))?;
    Ok(ExitCode::Good)
}

fn pool_of<'a>(config: &'a Config, name: &str, file: &str) -> Result<&'a Pool, Failure> {
    config.pools.get(name).ok_or_else(|| {
        let known = config.pools.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Failure::new(ExitCode::Failed, format!("there is no pool {name} in {file}")).hint(format!("there are: {known}"))
    })
}

/// Where a web server reaches a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Unix(String),
    Tcp(SocketAddr),
}

/// Whether the address is the same wherever the supervisor runs.
fn is_absolute(listen: &Listen) -> bool {
    match listen {
        Listen::Unix(path) => path.is_absolute(),
        Listen::Tcp(_) => true,
        Listen::Http(_) | Listen::Fd(_) | Listen::Systemd(_) => false,
    }
}

/// The first address that a web server can use; a unix socket is better than TCP.
fn address(pool: &Pool, runtime_dir: &Path) -> Option<Address> {
    let unix = pool.listen.iter().find_map(|listen| match listen {
        Listen::Unix(path) => Some(Address::Unix(runtime_dir.join(path).display().to_string())),
        _ => None,
    });
    unix.or_else(|| {
        pool.listen.iter().find_map(|listen| match listen {
            Listen::Tcp(address) => Some(Address::Tcp(*address)),
            _ => None,
        })
    })
}

/// A block for each place in the server's configuration, each under a comment that names it.
fn lines(server: Server, pool: &Pool, address: &Address) -> String {
    match server {
        Server::Nginx => nginx(pool, address),
        Server::Apache => apache(pool, address),
        Server::Caddy => caddy(pool, address),
        Server::Lighttpd => lighttpd(pool, address),
        Server::Haproxy => haproxy(pool, address),
    }
}

/// The front keeps as many connections as come; in direct mode a kept connection would hold a worker that nobody asks.
const fn is_kept(pool: &Pool) -> bool {
    matches!(pool.mode, Mode::Queue)
}

fn params(pool: &Pool, line: impl Fn(&str, &str) -> String) -> String {
    pool.params.iter().map(|(name, value)| line(name, value)).collect()
}

/// In double quotes, for all five of them.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn nginx(pool: &Pool, address: &Address) -> String {
    let name = &pool.name;
    let place = match address {
        Address::Unix(path) => format!("unix:{path}"),
        Address::Tcp(address) => address.to_string(),
    };
    let mut text = String::new();
    let upstream = if is_kept(pool) {
        let _infallible = write!(
            text,
            "# In http {{ … }}: the pool, and connections that are kept to it.\n\
             upstream steadfast-{name} {{\n    server {place};\n    keepalive 32;\n}}\n\n"
        );
        format!("steadfast-{name};\n    fastcgi_keep_conn on;")
    } else {
        format!("{place};")
    };
    let params = params(pool, |name, value| match value.contains('$') {
        false => format!("    fastcgi_param {name} {};\n", quoted(value)),
        // nginx would take the name of a variable for it, and has no way to say that it is none.
        true => format!("    # {name}: nginx cannot be given a value with a $ in it\n"),
    });
    let _infallible = write!(
        text,
        "# In server {{ … }}.\nlocation / {{\n    include fastcgi_params;\n{params}    fastcgi_pass {upstream}\n\
         \x20   fastcgi_next_upstream off;       # steadfast repeats what may be repeated\n\
         \x20   fastcgi_read_timeout {}s;        # steadfast answers before that\n}}\n",
        patience(pool)
    );
    text
}

/// How long a web server should wait: longer than whoever knows more.
fn patience(pool: &Pool) -> u64 {
    let waits = pool.queue.timeout + pool.request_timeout;
    waits.as_secs().saturating_add(10)
}

fn apache(pool: &Pool, address: &Address) -> String {
    let name = &pool.name;
    let place = match address {
        Address::Unix(path) => format!("unix:{path}|fcgi://steadfast-{name}/"),
        Address::Tcp(address) => format!("fcgi://{address}/"),
    };
    let reuse = if is_kept(pool) { "on" } else { "off" };
    let params = params(pool, |name, value| format!("ProxyFCGISetEnvIf \"true\" {name} {}\n", quoted(value)));
    format!(
        "# In the server's configuration or a VirtualHost; needs: a2enmod proxy_fcgi\n\
         ProxyPass \"/\" \"{place}\" enablereuse={reuse} timeout={}\n{params}",
        patience(pool)
    )
}

fn caddy(pool: &Pool, address: &Address) -> String {
    let place = match address {
        Address::Unix(path) => format!("unix/{path}"),
        Address::Tcp(address) => address.to_string(),
    };
    let params = params(pool, |name, value| format!("        env {name} {}\n", quoted(value)));
    format!(
        "# In the site's block of the Caddyfile.\n\
         reverse_proxy {place} {{\n    transport fastcgi {{\n{params}        read_timeout {}s\n    }}\n}}\n",
        patience(pool)
    )
}

fn lighttpd(pool: &Pool, address: &Address) -> String {
    let place = match address {
        Address::Unix(path) => format!("\"socket\" => {}", quoted(path)),
        Address::Tcp(address) => format!("\"host\" => \"{}\", \"port\" => {}", address.ip(), address.port()),
    };
    let mut text = format!(
        "# In lighttpd.conf.\nserver.modules += ( \"mod_fastcgi\" )\n\
         fastcgi.server = ( \"/\" => (( {place}, \"check-local\" => \"disable\", \"fix-root-scriptname\" => \"enable\" )) )\n"
    );
    if !pool.params.is_empty() {
        let params = params(pool, |name, value| format!("{} => {}, ", quoted(name), quoted(value)));
        let _infallible = write!(
            text,
            "server.modules += ( \"mod_setenv\" )\nsetenv.add-environment = ( {} )\n",
            params.trim_end_matches(", ")
        );
    }
    text
}

fn haproxy(pool: &Pool, address: &Address) -> String {
    let name = &pool.name;
    let place = match address {
        Address::Unix(path) => format!("unix@{path}"),
        Address::Tcp(address) => address.to_string(),
    };
    let keep =
        if is_kept(pool) { "    option keep-conn\n    option mpxs-conns\n" } else { "    no option keep-conn\n" };
    let params = params(pool, |name, value| format!("    set-param {name} {}\n", quoted(value)));
    format!(
        "# At the end of haproxy.cfg; in the frontend: default_backend steadfast-{name}\n\
         fcgi-app steadfast-{name}\n    docroot /\n{keep}{params}\n\
         backend steadfast-{name}\n    use-fcgi-app steadfast-{name}\n    retries 0\n    timeout server {}s\n\
         \x20   server one {place} proto fcgi\n",
        patience(pool)
    )
}
