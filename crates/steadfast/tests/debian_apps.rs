//! Request Tracker and Sympa as Debian packages them, moved as docs/moving.md says: their own units imported, under the unit of
//! examples/systemd on a real systemd, behind nginx. Where the packages are not installed, this is skipped:
//!
//!     apt-get install --no-install-recommends rt5-fcgi rt5-db-sqlite sympa dbconfig-sqlite3 sqlite3

use steadfast_harness as support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::booted::Booted;
use support::daemon::{SOON, STEADFAST};
use support::scene::Scene;
use support::within::skipped;

/// The web server's part: RT's from its package, and Sympa's.
const NGINX: &str = "
user www-data;
daemon off;
pid /run/nginx.pid;
events {}
http {
    server {
        listen 80;
        server_name localhost;
        include /usr/share/doc/rt5-fcgi/examples/request-tracker5.conf;
    }
    server {
        listen 80;
        server_name lists.example.org;
        location /wws {
            include fastcgi_params;
            fastcgi_split_path_info ^(/wws)(.*)$;
            fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_pass unix:/run/sympa/wwsympa.socket;
        }
    }
}
";

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).output();
    query.is_ok_and(|said| said.stdout == b"install ok installed")
}

/// A box with steadfast's unit and the imported pools; what the import warned of.
fn moved(scene: &Scene) -> Result<(Booted, String), String> {
    let booted = Booted::start(scene)?;
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/systemd/steadfast.service");
    let unit = fs::read_to_string(unit).expect("the example is there");
    booted.unit("steadfast.service", &unit.replace("/usr/bin/steadfast", STEADFAST));
    // A machine in a box has no name that Sympa takes for a domain, nor RT for its own.
    let _nothing = booted.sh("useradd --system --shell /usr/sbin/nologin steadfast
         mkdir -p /etc/steadfast && rm -rf /run/sympa
         chgrp www-data /etc/request-tracker5/RT_SiteConfig.pm && chmod g+r /etc/request-tracker5/RT_SiteConfig.pm
         echo 'WWS_FCGI_CHILDREN=2' > /etc/default/sympa
         echo 'Set(@ReferrerWhitelist, \"127.0.0.1:80\"); 1;' > /etc/request-tracker5/RT_SiteConfig.d/99-box.pm
         cd /etc/sympa/sympa && sed -i '/^\\(domain\\|listmaster\\|wwsympa_url\\)/d' sympa.conf
         printf '%s\\n' 'domain lists.example.org' 'listmaster master@lists.example.org' \
             'wwsympa_url http://lists.example.org/wws' >> sympa.conf");
    let units = "/lib/systemd/system/rt5-fcgi.service /lib/systemd/system/wwsympa.service";
    let warned = booted.sh(&format!("{STEADFAST} import unit {units} -o /etc/steadfast/steadfast.toml 2>&1"));
    Ok((booted, warned))
}

/// A page of one of the sites; cookies are kept.
fn page(booted: &Booted, host: &str, path: &str, more: &str) -> String {
    booted.sh(&format!(
        "curl -sSL --fail-with-body --max-time 60 --resolve {host}:80:127.0.0.1 -b /tmp/jar -c /tmp/jar \
         -H 'Referer: http://{host}/rt/' {more} http://{host}{path}"
    ))
}

fn login(booted: &Booted) {
    let text = page(booted, "localhost", "/rt/", "");
    assert!(text.contains("<title>Login</title>"), "{text}");
    // It shows the same form again; who has logged in is seen at the next page.
    let _nothing = page(booted, "localhost", "/rt/NoAuth/Login.html", "-d user=root -d pass=password");
}

fn home(booted: &Booted) {
    let text = page(booted, "localhost", "/rt/", "");
    assert!(text.contains("<title>RT at a glance</title>"), "{text}");
    let text = page(booted, "lists.example.org", "/wws", "");
    assert!(text.contains("Mailing lists service - home"), "{text}");
}

#[test]
fn request_tracker_and_sympa_serve_from_their_packaged_units() {
    if let Some(missing) = ["rt5-fcgi", "rt5-db-sqlite", "sympa"].iter().find(|package| !is_installed(package)) {
        return skipped("rt5 and sympa", &format!("Debian's {missing} is not installed"));
    }
    let scene = Scene::new();
    let (booted, warned) = match moved(&scene) {
        Ok(moved) => moved,
        Err(reason) => return skipped("rt5 and sympa", &reason),
    };
    // Until somebody makes the directory, it is said how.
    let check = format!("{STEADFAST} check -c /etc/steadfast/steadfast.toml 2>&1");
    let missing = booted.sh(&format!("! {check}"));
    assert!(missing.contains("the socket's directory /run/sympa does not exist"), "{missing}");
    let (_, line) = warned.split_once("let it go on: ").unwrap_or_else(|| panic!("{warned}"));
    let line = line.lines().next().unwrap_or_default();
    let _nothing = booted.sh(&format!("{line} && systemd-tmpfiles --create steadfast-sympa.conf && {check} --boot"));
    booted.write("/etc/nginx/moved.conf", NGINX);
    let _nothing = booted.sh("systemctl start steadfast && systemd-run -q --unit=web nginx -c /etc/nginx/moved.conf");
    assert!(booted.is_soon(SOON, "curl -s -o /dev/null http://localhost/"), "{}", booted.journal("-u web"));

    login(&booted);
    home(&booted);
    // Whom it hits, and each of RT's and Sympa's pages after that.
    let _nothing = booted.sh("kill -9 $(pgrep -f rt-server.fcgi | head -1) $(pgrep -f wwsympa.fcgi | head -1)");
    home(&booted);
    let _nothing = booted.sh("systemctl reload steadfast");
    home(&booted);
    let ticket = "-F id=new -F Queue=1 -F Subject=moved -F Status=new -F Content=text -F SubmitTicket=1";
    let text = page(&booted, "localhost", "/rt/Ticket/Create.html", ticket);
    assert!(text.contains(": moved</title>"), "{text}\n{}", booted.journal("-u steadfast -n 30"));

    // Sympa writes into /etc when somebody makes a list; the unit does not let it before it is told to.
    let aliases = "nsenter -t $(pgrep -f wwsympa.fcgi | head -1) --mount -- su -s /bin/sh sympa -c 'touch /etc/mail/sympa/aliases'";
    let _nothing = booted.sh(&format!("! {aliases}"));
    booted.unit("steadfast.service.d/sympa.conf", "[Service]\nReadWritePaths=/etc/mail/sympa /etc/sympa\n");
    let _nothing = booted.sh(&format!("systemctl restart steadfast && {aliases}"));
    home(&booted);
}
