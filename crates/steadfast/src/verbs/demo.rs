//! `steadfast demo`: a private directory with a configuration in it, and the supervisor of `run` on that.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use steadfast_proto::exit::ExitCode;
use steadfast_supervisor::reload::ConfigSource;
use steadfast_supervisor::run::{self as supervisor, Options};
use steadfast_supervisor::users;

use crate::arguments::{Demo, Target};
use crate::demo::home::{CONTROL, Home};
use crate::failure::{Failure, reason};
use crate::output::{self, Paint, Style};
use crate::places::Around;
use crate::verbs::run;

/// Where the site is if nothing else is said and nobody else is there; else on one of the next ports.
const PORT: u16 = 8080;
/// So many ports are tried.
const PORTS: u16 = 20;
/// Whom root becomes. Nothing that matters belongs to this user, and it is there on every system.
const NOBODY: &str = "nobody";

/// Gives the supervisor's own exit code.
pub(super) fn demo(demo: &Demo, target: &Target, around: &Around) -> Result<u8, Failure> {
    refuse(demo, target)?;
    let wanted = demo.http.as_deref().map(address).transpose()?;
    if rustix::process::geteuid().is_root() {
        return Err(become_nobody());
    }
    let (http, is_other) = match wanted {
        Some(address) => (free(address)?, false),
        None => first_free()?,
    };
    let home = Home::make(&around.surroundings)?;
    let source = ConfigSource::File(home.furnish(http)?);
    let loaded = run::read(&source, around, |_| ()).map_err(|report| run::broken(&report))?;
    output::result(&banner(http, is_other, home.path(), output::stdout_style()))?;
    let directory = around.directory.clone();
    let version = env!("CARGO_PKG_VERSION");
    Ok(supervisor::run(Options { loaded, source, directory, record: None, control: None, log: None, version }))
}

fn refuse(demo: &Demo, target: &Target) -> Result<(), Failure> {
    if let Some(ops) = &demo.ops {
        let message = format!("`--ops {ops}`: --ops is not in this version");
        return Err(Failure::new(ExitCode::Configuration, message).hint("remove it"));
    }
    let own = [("-c", &target.config), ("--control", &target.control)];
    if let Some((name, _)) = own.iter().find(|(_, value)| value.is_some()) {
        let message =
            format!("the demo has a configuration and a control socket of its own: {name} means nothing to it");
        return Err(Failure::new(ExitCode::Usage, message).hint("to run a configuration write `steadfast run -c FILE`"));
    }
    Ok(())
}

/// Only this machine: whoever reaches the demo may break it.
fn address(typed: &str) -> Result<SocketAddr, Failure> {
    let bare = typed.strip_prefix("http://").unwrap_or(typed);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let bare = bare.replace("localhost:", "127.0.0.1:");
    let address: SocketAddr = bare.parse().map_err(|_| {
        Failure::new(ExitCode::Usage, format!("`--http {typed}`: that is no address and port"))
            .hint("write for example --http 127.0.0.1:3000")
    })?;
    if !address.ip().is_loopback() {
        let message =
            format!("`--http {typed}`: the demo listens on this machine only, because whoever reaches it may break it");
        return Err(Failure::new(ExitCode::Usage, message).hint(format!(
            "write --http 127.0.0.1:{port}; from elsewhere: ssh -L {port}:127.0.0.1:{port} THIS-MACHINE",
            port = address.port()
        )));
    }
    Ok(address)
}

/// Looks whether it can be had, and which port it is if any will do. The supervisor binds it a moment later.
fn free(wanted: SocketAddr) -> Result<SocketAddr, Failure> {
    let bound = TcpListener::bind(wanted).and_then(|listener| listener.local_addr());
    bound.map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ExitCode::NotAllowed,
            _ => ExitCode::System,
        };
        Failure::new(code, format!("cannot listen on http://{wanted}: {}", reason(&error)))
            .hint("choose another port, for example --http 127.0.0.1:3000, or any that is free: --http 127.0.0.1:0")
    })
}

/// The usual port, or the next one that is free: then true.
fn first_free() -> Result<(SocketAddr, bool), Failure> {
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let usual = free(at(PORT));
    if let Ok(address) = usual {
        return Ok((address, false));
    }
    let others = (PORT + 1..PORT + PORTS).chain([0]).map(at);
    let other = others.into_iter().find_map(|address| free(address).ok());
    // If none can be had, what is wrong with the first is wrong with all.
    other.map_or(usual, Ok).map(|address| (address, true))
}

/// The demo needs no root, and its workers must speak with its supervisor, which root's would not let them. So all of it
/// becomes nobody, at once and for good; executed again, it begins as any process of that user does.
fn become_nobody() -> Failure {
    let cannot = |why: String| {
        Failure::new(ExitCode::System, format!("the demo needs no root, but cannot become the user {NOBODY}: {why}"))
            .hint("start it as an ordinary user")
    };
    let user = match users::user(NOBODY) {
        Ok(Some(user)) if user.uid != 0 => user,
        Ok(_) => return cannot("there is no such user".to_owned()),
        Err(error) => return cannot(reason(&error)),
    };
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| "steadfast".into());
    // The path of this program may lead through directories that are closed to nobody.
    let mut again = Command::new("/proc/self/exe");
    // These are root's. (The other groups are given up with the user.)
    again.env_remove("XDG_RUNTIME_DIR").env_remove("RUNTIME_DIRECTORY").env_remove("NOTIFY_SOCKET");
    again.arg0(name).args(arguments).current_dir("/").gid(user.gid).uid(user.uid);
    cannot(reason(&again.exec()))
}

fn banner(http: SocketAddr, is_other: bool, home: &Path, style: Style) -> String {
    let program = env::args_os().next().map_or("steadfast".into(), |name| name.to_string_lossy().into_owned());
    let control = home.join(CONTROL);
    let other = if is_other { format!("  (port {PORT} is taken)") } else { String::new() };
    let url = style.paint(Paint::Strong, &format!("http://{http}/"));
    let asks = format!("--control {}", control.display());
    format!(
        "
  A small site to break: a zygote with three to six Rust workers.

  Open   {url}{other}
  Watch  {program} status --watch {asks}
         {program} events -f {asks}
  Stop   Ctrl-C

  Below is the log.

"
    )
}

#[cfg(test)]
mod tests {
    use steadfast_proto::runtime::Surroundings;

    use super::*;
    use crate::arguments::{Verb, parse};

    fn perform(line: &str) -> Failure {
        let arguments = parse(line.split_whitespace()).expect(line);
        let Some(Verb::Demo(arguments_of_demo)) = arguments.verb else { panic!("demo") };
        let around = Around { directory: "/nowhere".into(), surroundings: Surroundings::default() };
        demo(&arguments_of_demo, &arguments.target, &around).expect_err("refused")
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_done() {
        for (line, code, words) in [
            ("steadfast demo --ops 127.0.0.1:9090", ExitCode::Configuration, "not in this version"),
            ("steadfast demo -c x.toml", ExitCode::Usage, "of its own"),
            ("steadfast demo --control x", ExitCode::Usage, "of its own"),
            ("steadfast demo --http here", ExitCode::Usage, "no address"),
            ("steadfast demo --http 0.0.0.0:8080", ExitCode::Usage, "this machine only"),
            ("steadfast demo --http 192.0.2.1:8080", ExitCode::Usage, "this machine only"),
        ] {
            let failure = perform(line);
            assert_eq!(failure.code, code, "{line}");
            assert!(failure.message.contains(words), "{line}: {failure}");
        }
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for typed in ["127.0.0.1:3000", "http://127.0.0.1:3000", "http://localhost:3000/", "localhost:3000"] {
            assert_eq!(address(typed).expect(typed).to_string(), "127.0.0.1:3000");
        }
        assert_eq!(address("[::1]:0").expect("v6").to_string(), "[::1]:0");
    }

    #[test]
    fn a_taken_address_is_said_to_be_taken_and_port_0_is_any() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let failure = free(listener.local_addr().expect("bound")).expect_err("taken");
        assert!(failure.message.contains("in use") && failure.hint.is_some(), "{failure:?}");
        assert_ne!(free(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("any").port(), 0);
    }
}
