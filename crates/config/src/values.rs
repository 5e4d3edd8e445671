//! Single values as text to what they mean: durations, sizes, addresses, octal modes, names.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::types::{Listen, Workers};

/// Longer timeouts than a year are a mistake, and would overflow somebody's clock.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// `sun_path` has 108 bytes, one of them the closing NUL (unix(7)).
pub(crate) const UNIX_PATH_MAX: usize = 107;
/// More workers in one pool than this are a slip of the finger.
pub(crate) const WORKERS_MAX: u32 = 10_000;
/// The longest path of a status page.
const STATUS_PATH_MAX: usize = 256;
/// Of `workers` where the file does not say.
pub(crate) const WORKERS_DEFAULT: Workers = Workers { min: 4, max: 4, step: 4, idle: Duration::from_secs(60) };

/// Why a value is refused, and what to write instead.
#[derive(Debug, PartialEq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Complaint {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// `"1m30s"`, `"100ms"`, `"0"`.
pub(crate) fn duration(text: &str) -> Result<Duration, Complaint> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let complaint = || {
        Complaint::new(format!("{text:?} is not a duration"))
            .hint("whole numbers with ms, s, m, h or d, the largest first: \"90s\", \"1m30s\", \"100ms\"")
    };
    let too_long = || Complaint::new(format!("{text:?} is longer than a year"));
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(complaint()),
        };
        if number.is_empty() || milliseconds >= unit_before {
            return Err(complaint());
        }
        let number: u64 = number.parse().map_err(|_| too_long())?;
        let part = number.checked_mul(milliseconds).ok_or_else(too_long)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(too_long)?;
        unit_before = milliseconds;
        rest = after;
    }
    match total {
        _ if text.is_empty() => Err(complaint()),
        total if total > DURATION_MAX => Err(too_long()),
        total => Ok(total),
    }
}

/// A duration that is not zero.
pub(crate) fn positive(text: &str) -> Result<Duration, Complaint> {
    match duration(text)? {
        Duration::ZERO => Err(Complaint::new("this must be longer than zero")),
        duration => Ok(duration),
    }
}

/// `"512MiB"`, `"0"`, in bytes.
pub(crate) fn size(text: &str) -> Result<u64, Complaint> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        "" if number == "0" => 0,
        _ => {
            let guess = match unit.chars().next() {
                Some('k' | 'K') => "KiB",
                Some('g' | 'G') => "GiB",
                Some('t' | 'T') => "TiB",
                _ => "MiB",
            };
            let number = if number.is_empty() { "512" } else { number };
            return Err(Complaint::new(format!("{text:?} is not a size"))
                .hint(format!("a whole number with B, KiB, MiB, GiB or TiB: \"{number}{guess}\"")));
        }
    };
    let number: Option<u64> = if number.is_empty() { None } else { number.parse().ok() };
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| Complaint::new(format!("{text:?} is not a size that fits 64 bits")))
}

/// Permission bits: `"0660"`.
pub(crate) fn octal(text: &str) -> Result<u32, Complaint> {
    let complaint = || {
        Complaint::new(format!("{text:?} is not an octal mode between 0000 and 0777"))
            .hint("three or four octal digits: \"0660\"")
    };
    let is_octal = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if !is_octal {
        return Err(complaint());
    }
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(complaint)
}

/// The path of a status page, with the characters that php-fpm allows there; empty is none.
pub(crate) fn status_path(text: &str) -> Result<String, Complaint> {
    let is_path = text.starts_with('/') && (2..=STATUS_PATH_MAX).contains(&text.len());
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./~".contains(&byte));
    if text.is_empty() || (is_path && is_plain) {
        return Ok(text.to_owned());
    }
    Err(Complaint::new("this is no path for a status page")
        .hint(format!("a slash, then letters, digits and any of -_./~, at most {STATUS_PATH_MAX} in all: \"/status\"")))
}

/// One entry of `listen`.
pub(crate) fn listen(text: &str) -> Result<Listen, Complaint> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        return systemd(name);
    }
    if let Some(number) = text.strip_prefix("fd:") {
        return match number.parse::<i32>() {
            Ok(fd) if fd == 0 || (3..=65_535).contains(&fd) => Ok(Listen::Fd(fd)),
            Ok(1 | 2) => Err(Complaint::new(format!("{text:?}: this fd is the supervisor's own output"))
                .hint("pass the socket as fd 0, or as 3 or higher")),
            _ => Err(Complaint::new(format!("{text:?} is not the number of an fd"))
                .hint("the number of an inherited socket: \"fd:3\"")),
        };
    }
    if let Some(address) = text.strip_prefix("http://") {
        return tcp(text, address, "http://").map(Listen::Http);
    }
    if text.starts_with("https://") {
        return Err(Complaint::new(format!("{text:?}: steadfast speaks no TLS"))
            .hint("a web server in front does; listen on FastCGI or on \"http://127.0.0.1:8080\""));
    }
    if text.starts_with("http+") || text.starts_with("http:") {
        return Err(Complaint::new(format!("{text:?} is not an address"))
            .hint("HTTP is spoken on TCP only: \"http://127.0.0.1:8080\""));
    }
    tcp(text, text, "").map(Listen::Tcp)
}

/// `address` is what of `text` stands behind `scheme`.
fn tcp(text: &str, address: &str, scheme: &str) -> Result<SocketAddr, Complaint> {
    match address.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(Complaint::new(format!("{text:?}: port 0 is no port"))
            .hint("name the port that is connected to: 1 to 65535")),
        Ok(address) => Ok(address),
        Err(_) => Err(not_an_address(text, address, scheme)),
    }
}

fn unix(path: &str) -> Result<Listen, Complaint> {
    if path.starts_with('@') {
        return Err(Complaint::new(format!(
            "{:?}: abstract sockets have no owner and no mode: every process on this machine could connect",
            format!("unix:{path}")
        ))
        .hint("name a file: \"unix:site.sock\""));
    }
    if path.is_empty() || path.ends_with('/') {
        return Err(Complaint::new(format!("\"unix:{path}\" does not name a socket file"))
            .hint("name a file: \"unix:site.sock\""));
    }
    // Relative paths grow by the runtime directory: that is seen when the machine is looked at.
    if path.len() > UNIX_PATH_MAX {
        return Err(Complaint::new(format!(
            "this socket path has {} bytes, but the kernel takes at most {UNIX_PATH_MAX}",
            path.len()
        ))
        .hint("choose a shorter path"));
    }
    Ok(Listen::Unix(PathBuf::from(path)))
}

/// The charset is that of `FileDescriptorName=` (systemd.socket(5)).
fn systemd(name: &str) -> Result<Listen, Complaint> {
    let is_good = !name.is_empty() && name.len() <= 255 && name.chars().all(|c| !c.is_control() && c != ':');
    if is_good {
        Ok(Listen::Systemd(name.to_owned()))
    } else {
        Err(Complaint::new(format!("\"systemd:{name}\" does not name a socket unit's fd"))
            .hint("FileDescriptorName= of the socket unit: \"systemd:site\""))
    }
}

fn not_an_address(text: &str, address: &str, scheme: &str) -> Complaint {
    let complaint = Complaint::new(format!("{text:?} is not an address"));
    if !scheme.is_empty() {
        if let Some((bare, _)) = address.split_once('/')
            && bare.parse::<SocketAddr>().is_ok()
        {
            return complaint.hint(format!("without a path: \"{scheme}{bare}\""));
        }
        if let Ok(host) = address.parse::<std::net::Ipv4Addr>() {
            return complaint.hint(format!("with a port: \"{scheme}{}\"", SocketAddr::new(host.into(), 8080)));
        }
    }
    let path = if scheme.is_empty() { text.strip_prefix("unix").unwrap_or(text) } else { "" };
    if path.contains('/') || path.ends_with(".sock") || path.ends_with(".socket") {
        return complaint.hint(format!("for a unix socket write \"unix:{}\"", path.trim_start_matches(':')));
    }
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    match port.parse::<u16>() {
        Ok(port) if matches!(host, "" | "localhost") => {
            complaint.hint(format!("an address needs its numbers: \"{scheme}127.0.0.1:{port}\""))
        }
        Ok(port) if host == "*" => complaint.hint(format!("for every address write \"{scheme}0.0.0.0:{port}\"")),
        Ok(port) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
            complaint.hint(format!("IPv6 stands in brackets: \"{scheme}[{host}]:{port}\""))
        }
        Ok(_) => complaint.hint("host names are not looked up: write the address in numbers"),
        Err(_) if !scheme.is_empty() => complaint.hint("write \"http://127.0.0.1:8080\""),
        Err(_) => complaint
            .hint("\"unix:PATH\", \"ADDRESS:PORT\", \"http://ADDRESS:PORT\", \"systemd:NAME\" or \"fd:NUMBER\""),
    }
}

/// One entry of `allowed-clients`. IPv4 within IPv6 is IPv4: so the kernel's word on a client can be compared with it.
pub(crate) fn client(text: &str) -> Result<IpAddr, Complaint> {
    let address: IpAddr = text.parse().map_err(|_| {
        let complaint = Complaint::new(format!("{text:?} is not an IP address"));
        if text.contains('/') {
            complaint.hint("networks are not possible: name each address")
        } else {
            complaint.hint("an address in numbers: \"127.0.0.1\"")
        }
    })?;
    let address = address.to_canonical();
    if address.is_unspecified() {
        return Err(Complaint::new(format!("{text:?} is no client's address: nobody could connect"))
            .hint("name each web server by its own address"));
    }
    Ok(address)
}

/// `--workers`: `"4"` or `"2..4"`.
pub(crate) fn workers(text: &str) -> Result<Workers, Complaint> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    match (min.parse(), max.parse()) {
        (Ok(min), Ok(max)) => Ok(Workers { min, max, ..WORKERS_DEFAULT }),
        (_, _) => {
            Err(Complaint::new(format!("{text:?} is not a number of workers"))
                .hint("a number, or MIN..MAX: --workers 4"))
        }
    }
}

/// The name of a pool: 1 to 64 of `a-z A-Z 0-9 - _`.
pub(crate) fn pool_name(name: &str) -> Result<(), Complaint> {
    let is_good = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_good {
        Ok(())
    } else {
        Err(Complaint::new(format!("{name:?} cannot be the name of a pool"))
            .hint("1 to 64 of the letters a-z and A-Z, digits, - and _"))
    }
}

/// Variables that steadfast sets or removes itself (interface.md, section 3).
const VARIABLES_OURS: &[&str] = &[
    "FCGI_WEB_SERVER_ADDRS",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "PHP_FCGI_CHILDREN",
    "STEADFAST_LINK",
];

/// The name of an environment variable.
pub(crate) fn variable(name: &str) -> Result<(), Complaint> {
    if name.is_empty() || name.contains('=') {
        return Err(Complaint::new(format!("{name:?} cannot be the name of an environment variable"))
            .hint("a name is not empty and has no ="));
    }
    if VARIABLES_OURS.contains(&name) {
        let complaint = Complaint::new(format!("the variable {name} is steadfast's own"));
        return Err(match name {
            "FCGI_WEB_SERVER_ADDRS" => complaint.hint("write `allowed-clients` instead"),
            "PHP_FCGI_CHILDREN" => complaint.hint("write `workers` instead: steadfast starts the workers"),
            _ => complaint.hint("leave it out"),
        });
    }
    Ok(())
}

/// Longest URI of a verify request, in bytes.
const URI_MAX: usize = 2048;

/// The verify request: method and origin-form URI.
pub(crate) fn request(text: &str) -> Result<(String, String), Complaint> {
    let example = "a method, one space and a path: \"GET /health\"";
    let complaint = |why: &str| Complaint::new(format!("{text:?} is not a request: {why}"));
    let Some((method, uri)) = text.split_once(' ') else {
        return Err(match text.starts_with('/') {
            true if text.len() <= 80 => complaint("it has no method").hint(format!("write \"GET {text}\"")),
            _ => complaint("it has no path").hint(example),
        });
    };
    let is_method = |method: &str| {
        (1..=32).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
    };
    if !is_method(method) {
        let upper = method.to_ascii_uppercase();
        let complaint = complaint("its method is none");
        return Err(if is_method(&upper) && uri.len() <= 80 {
            complaint.hint(format!("write \"{upper} {uri}\""))
        } else {
            complaint.hint(example)
        });
    }
    if uri.starts_with("http://") || uri.starts_with("https://") {
        let hint = "write the path alone; `params = { SERVER_NAME = \"…\" }` names the host";
        return Err(complaint("it is sent to the worker itself, not to a host").hint(hint));
    }
    if !uri.starts_with('/') {
        return Err(complaint("the path must begin with /").hint(example));
    }
    if uri.len() > URI_MAX {
        return Err(Complaint::new(format!("a URI of {} bytes is longer than {URI_MAX}", uri.len())));
    }
    if let Some(bad) = uri.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        return Err(complaint(&format!("{bad:?} cannot stand in a URI")).hint("write it as %XX, or leave it out"));
    }
    Ok((method.to_owned(), uri.to_owned()))
}

/// Parameters that belong to each request itself: another value would make the worker read a request that is none.
const PARAMS_OURS: &[&str] = &["CONTENT_LENGTH", "REQUEST_METHOD"];
/// Longest name of a parameter, in bytes.
const PARAM_NAME_MAX: usize = 128;

/// The name of a FastCGI parameter.
pub(crate) fn param(name: &str) -> Result<(), Complaint> {
    let is_in = |name: &str| {
        let is_sign = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        (1..=PARAM_NAME_MAX).contains(&name.len()) && name.bytes().all(is_sign)
    };
    if !is_in(name) {
        let shown: String = name.chars().take(80).collect();
        let complaint = Complaint::new(format!("{shown:?} cannot be the name of a parameter"));
        let meant = name.to_ascii_uppercase().replace('-', "_");
        return Err(if is_in(&meant) && meant.len() <= 80 {
            complaint.hint(format!("did you mean `{meant}`?"))
        } else {
            complaint.hint("1 to 128 of the letters A-Z, digits and _")
        });
    }
    if PARAMS_OURS.contains(&name) {
        return Err(Complaint::new(format!("the parameter {name} is each request's own")).hint("leave it out"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_largest_first() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("0"), Ok(0));
        assert_eq!(ms("90s"), Ok(90_000));
        assert_eq!(ms("100ms"), Ok(100));
        assert_eq!(ms("5m"), Ok(300_000));
        assert_eq!(ms("1h"), Ok(3_600_000));
        assert_eq!(ms("1m30s"), Ok(90_000));
        assert_eq!(ms("1d2h3m4s5ms"), Ok(93_784_005));
        for bad in ["", "90", "s", "1.5s", "-1s", " 1s", "1 s", "30s1m", "1s1s", "1w", "1µs", "٣s", "00"] {
            assert!(ms(bad).is_err(), "{bad}");
        }
        for long in ["367d", "99999999999999999999s", "18446744073709551615h", "18446744073709551615ms"] {
            assert!(duration(long).is_err_and(|c| c.message.contains("longer than a year")), "{long}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1B"), Ok(1));
        assert_eq!(size("2KiB"), Ok(2048));
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("3GiB"), Ok(3 << 30));
        for bad in ["", "512", "MiB", "1.5GiB", "-1B", "99999999999TiB", "16777216TiB", "99999999999999999999B"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert!(size("512M").unwrap_err().hint.unwrap().contains("\"512MiB\""));
        assert!(size("2gb").unwrap_err().hint.unwrap().contains("\"2GiB\""));
    }

    #[test]
    fn octal_modes_end_at_0777() {
        assert_eq!(octal("0660"), Ok(0o660));
        assert_eq!(octal("22"), Ok(0o22));
        assert_eq!(octal("0777"), Ok(0o777));
        for bad in ["", "1000", "0888", "0o22", "00022", "+1", "rw"] {
            assert!(octal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_are_unix_tcp_fd_or_systemd() {
        assert_eq!(listen("unix:a.sock"), Ok(Listen::Unix("a.sock".into())));
        assert_eq!(listen("127.0.0.1:9000"), Ok(Listen::Tcp("127.0.0.1:9000".parse().unwrap())));
        assert_eq!(listen("[::1]:9000"), Ok(Listen::Tcp("[::1]:9000".parse().unwrap())));
        assert_eq!(listen("http://127.0.0.1:80"), Ok(Listen::Http("127.0.0.1:80".parse().unwrap())));
        assert_eq!(listen("http://[::]:8080"), Ok(Listen::Http("[::]:8080".parse().unwrap())));
        assert_eq!(listen("fd:3"), Ok(Listen::Fd(3)));
        assert_eq!(listen("fd:0"), Ok(Listen::Fd(0)));
        assert_eq!(listen("systemd:site"), Ok(Listen::Systemd("site".into())));
        let long = format!("unix:/{}", "x".repeat(107));
        for bad in [
            "",
            "unix:",
            "unix:/run/",
            "unix:@x",
            "fd:",
            "fd:1",
            "fd:2",
            "fd:-1",
            "fd:x",
            "systemd:",
            "systemd:a:b",
            "127.0.0.1:0",
            "127.0.0.1",
            "::1:9000",
            "http://",
            "http://127.0.0.1",
            "http://127.0.0.1:0",
            "http://127.0.0.1:80/",
            "http://localhost:80",
            "http://unix:/run/x.sock",
            "http+unix:/run/x.sock",
            "http:127.0.0.1:80",
            "https://127.0.0.1:443",
            long.as_str(),
        ] {
            assert!(listen(bad).is_err(), "{bad}");
        }
        assert!(listen(&format!("unix:/{}", "x".repeat(106))).is_ok());
    }

    #[test]
    fn an_address_nearly_right_gets_the_right_one_as_hint() {
        let hint = |text| listen(text).unwrap_err().hint.unwrap();
        assert!(hint("/run/x.sock").contains("\"unix:/run/x.sock\""));
        assert!(hint("unix/x.sock").contains("\"unix:/x.sock\""));
        assert!(hint("localhost:9000").contains("\"127.0.0.1:9000\""));
        assert!(hint(":9000").contains("\"127.0.0.1:9000\""));
        assert!(hint("9000").contains("\"127.0.0.1:9000\""));
        assert!(hint("*:9000").contains("\"0.0.0.0:9000\""));
        assert!(hint("::1:9000").contains("\"[::1]:9000\""));
        assert!(hint("example.org:9000").contains("in numbers"));
        assert!(hint("http://localhost:80").contains("\"http://127.0.0.1:80\""));
        assert!(hint("http://:80").contains("\"http://127.0.0.1:80\""));
        assert!(hint("http://*:80").contains("\"http://0.0.0.0:80\""));
        assert!(hint("http://::1:80").contains("\"http://[::1]:80\""));
        assert!(hint("http://127.0.0.1:80/x").contains("\"http://127.0.0.1:80\""));
        assert!(hint("http://127.0.0.2").contains("\"http://127.0.0.2:8080\""));
        assert!(hint("http://x.org").contains("\"http://127.0.0.1:8080\""));
        assert!(hint("http+unix:/run/x.sock").contains("on TCP only"));
        assert!(hint("https://127.0.0.1:443").contains("web server"));
    }

    #[test]
    fn clients_are_single_addresses() {
        assert_eq!(client("192.0.2.1"), Ok("192.0.2.1".parse().unwrap()));
        assert_eq!(client("::ffff:192.0.2.1"), Ok("192.0.2.1".parse().unwrap()));
        assert_eq!(client("2001:db8::1"), Ok("2001:db8::1".parse().unwrap()));
        for bad in ["", "localhost", "10.0.0.0/8", "127.0.0.1:80", "[::1]", "0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert!(client(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn workers_of_the_command_line_are_a_number_or_a_range() {
        assert_eq!(workers("4").map(|w| (w.min, w.max)), Ok((4, 4)));
        assert_eq!(workers("2..4").map(|w| (w.min, w.max)), Ok((2, 4)));
        for bad in ["", "x", "2..", "..4", "-1", "2...4", "99999999999"] {
            assert!(workers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_verify_request_is_a_method_and_a_path() {
        let good = |text: &str| request(text).map(|(method, uri)| format!("{method}|{uri}"));
        assert_eq!(good("GET /"), Ok("GET|/".into()));
        assert_eq!(good("HEAD /a/b?c=d&e=%20"), Ok("HEAD|/a/b?c=d&e=%20".into()));
        assert_eq!(good("M-SEARCH /*"), Ok("M-SEARCH|/*".into()));
        assert!(good(&format!("GET /{}", "x".repeat(2047))).is_ok());
        for bad in [
            "",
            "GET",
            "/health",
            "GET  /",
            "get /",
            "GET health",
            "GET /a b",
            "GET /a#b",
            "GET /ä",
            "GET /\r\nHost: x",
            "GET http://x/",
            "G\u{0}T /",
            " /",
            &format!("GET /{}", "x".repeat(2048)),
            &format!("{} /", "X".repeat(33)),
        ] {
            assert!(good(bad).is_err(), "{bad}");
        }
        let hint = |text| request(text).unwrap_err().hint.unwrap();
        assert!(hint("/health").contains("\"GET /health\""));
        assert!(hint("get /x").contains("\"GET /x\""));
        assert!(hint("GET https://x/").contains("the path alone"));
        assert!(hint("GET /a b").contains("%XX"));
    }

    #[test]
    fn parameters_have_the_names_of_cgi() {
        for good in ["SCRIPT_FILENAME", "X", "HTTP_HOST", "A1_", &"X".repeat(128)] {
            assert_eq!(param(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "A=B", "Ä", "CONTENT_LENGTH", "REQUEST_METHOD", &"X".repeat(129)] {
            assert!(param(bad).is_err(), "{bad}");
        }
        let hint = |name| param(name).unwrap_err().hint.unwrap();
        assert!(hint("script-filename").contains("`SCRIPT_FILENAME`"));
        assert!(hint("a b").contains("A-Z"));
    }

    #[test]
    fn names_of_pools_and_variables() {
        assert_eq!(pool_name("Site_1-b"), Ok(()));
        for bad in ["", "a b", "a.b", "ä", &"x".repeat(65)] {
            assert!(pool_name(bad).is_err(), "{bad}");
        }
        assert_eq!(variable("SITE_ENV"), Ok(()));
        for bad in ["", "A=B", "LISTEN_FDS"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }
}
