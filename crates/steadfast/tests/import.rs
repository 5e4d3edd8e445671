//! What `steadfast import` makes of Debian's files passes `check`, and serves: munin, iipsrv, bosixnet and php-fpm's pool as they are
//! installed, rt5 and sympa with their programs and users played by ours (debian_apps.rs has them as they are).

use steadfast_harness as support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use support::daemon::{Daemon, STEADFAST, Said, USER, is_root, steadfast};
use support::fcgi::Address;
use support::nginx::Nginx;
use support::scene::{Scene, allow};
use support::{apps, proc};

/// Files of Debian's packages, as crates/import has them.
fn debian(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../import/tests/debian").join(name);
    path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display())).display().to_string()
}

fn import(scene: &Scene, arguments: &[&str]) -> Said {
    let said = steadfast(scene.path(), &[&["import"], arguments].concat());
    assert_eq!(said.code, 0, "{arguments:?}: {}", said.stderr);
    said
}

/// Puts the scene's paths and users in the place of the package's, and a supervisor around the pool.
fn placed(scene: &Scene, text: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = text.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "no {from:?} in {text}");
        text = text.replace(from, to);
    }
    if !is_root() {
        let owned = |line: &&str| ["user =", "group =", "socket ="].iter().all(|key| !line.starts_with(key));
        text = text.lines().filter(owned).map(|line| format!("{line}\n")).collect();
    }
    let head = format!("[supervisor]\nruntime-dir = {:?}\nlog = \"json\"\n", scene.join("run"));
    scene.write("steadfast.toml", &format!("{head}{text}"))
}

fn checked(scene: &Scene, file: &Path) {
    let said = steadfast(scene.path(), &["check", "-c", &file.display().to_string()]);
    assert_eq!(said.code, 0, "{}\n{}", said.stderr, fs::read_to_string(file).expect("ours"));
}

fn started(scene: &Scene, file: &Path, pool: &str) -> Daemon {
    let mut command = Command::new(STEADFAST);
    command.arg("run").arg("-c").arg(file);
    let mut daemon = Daemon::spawn(command, scene, &scene.join("run/control.sock"));
    daemon.wait_serving(pool);
    daemon
}

fn pinged(scene: &Scene, socket: &str, arguments: &[&str]) -> String {
    let address = format!("unix:{}", scene.join(socket).display());
    let said = steadfast(scene.path(), &[&["ping", &address], arguments].concat());
    assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
    said.stdout
}

#[test]
fn rt5_and_sympa_serve_with_programs_of_ours() {
    let program = apps::rust();
    for (kind, unit, theirs, socket, users) in [
        (
            "unit",
            "units/rt5-fcgi.service",
            "/usr/share/request-tracker5/libexec/rt-server.fcgi",
            "/var/run/rt5-fcgi.sock",
            &[][..],
        ),
        (
            "unit",
            "units/wwsympa.service",
            "/usr/lib/cgi-bin/sympa/wwsympa.fcgi",
            "/run/sympa/wwsympa.socket",
            &["user = \"sympa\"", "group = \"sympa\""][..],
        ),
        (
            "spawn-fcgi",
            "etc/init.d/rt5-fcgi",
            "/usr/share/request-tracker5/libexec/rt-server.fcgi",
            "/var/run/rt5-fcgi.sock",
            &[][..],
        ),
    ] {
        let scene = Scene::new();
        let said = import(&scene, &[kind, &debian(unit), "--name", "site", "--root", &debian("")]);
        let place = scene.join("pool.sock").display().to_string();
        let own = [format!("user = {USER:?}"), format!("group = {USER:?}")];
        let mut changes = vec![(theirs, program.as_str()), (socket, place.as_str())];
        changes.extend(users.iter().zip(&own).map(|(theirs, ours)| (*theirs, ours.as_str())));
        let file = placed(&scene, &said.stdout, &changes);
        checked(&scene, &file);
        let mut daemon = started(&scene, &file, "site");
        assert!(pinged(&scene, "pool.sock", &["/echo?x=1"]).contains("x=1"), "{unit}");
        daemon.stop_idle();
    }
}

#[test]
fn munin_serves_from_its_packaged_units() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let unit = "/usr/share/doc/munin/examples/systemd-fastcgi/munin-html.service";
    let said = import(&scene, &["unit", unit]);
    assert!(said.stderr.contains("systemctl disable --now munin-html.socket"), "{}", said.stderr);
    // What munin-update would have left behind.
    for name in ["db", "html", "log", "state"] {
        fs::create_dir(scene.join(name)).expect("the scene is ours");
        allow(&scene.join(name), 0o777);
    }
    let place = scene.path().display();
    let config = scene.write(
        "munin.conf",
        &format!(
            "dbdir {place}/db\nhtmldir {place}/html\nlogdir {place}/log\nrundir {place}/state\n\
             tmpldir /etc/munin/templates\nstaticdir /etc/munin/static\n[tower.example]\naddress 127.0.0.1\n"
        ),
    );
    for part in ["datafile", "htmlconf", "limits"] {
        let code = "nstore({ version => '2.0.73' }, $ARGV[0])";
        let file = scene.join(&format!("db/{part}.storable"));
        let stored = Command::new("perl").args(["-MStorable=nstore", "-e", code]).arg(file).status();
        assert!(stored.expect("perl runs").success());
    }
    let socket = scene.join("html.sock").display().to_string();
    let variable = format!("environment = {{ MUNIN_CONFIG = {:?} }}\nlisten =", config.display().to_string());
    let changes = [("/run/munin/fcgi-html.sock", socket.as_str()), ("listen =", variable.as_str())];
    let file = placed(&scene, &said.stdout, &changes);
    checked(&scene, &file);
    let mut daemon = started(&scene, &file, "munin-html");
    let page = pinged(&scene, "html.sock", &["/", "--param", "PATH_INFO=/index.html"]);
    assert!(page.contains("Munin") && page.contains("Overview"), "{page}");
    daemon.stop_idle();
}

/// A grey picture in one tile, which is what iipsrv reads.
fn picture() -> Vec<u8> {
    const SIDE: u32 = 64;
    let tags = [
        (256, SIDE), // width
        (257, SIDE), // height
        (258, 8),    // bits of a sample
        (259, 1),    // not compressed
        (262, 1),    // 0 is black
        (277, 1),    // samples of a pixel
        (322, SIDE), // a tile's width
        (323, SIDE), // … and height
        (324, 8),    // where it begins
        (325, SIDE * SIDE),
    ];
    let directory = 8 + SIDE * SIDE;
    let mut bytes = [b"II*\0", &directory.to_le_bytes()[..], &vec![128; (SIDE * SIDE) as usize]].concat();
    bytes.extend(u16::try_from(tags.len()).expect("ten").to_le_bytes());
    for (tag, value) in tags {
        const LONG: u16 = 4;
        bytes.extend([u16::to_le_bytes(tag), LONG.to_le_bytes()].concat());
        bytes.extend([1u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 4]);
    bytes
}

/// Two programs in C++, one of which would bind its socket by itself, and one that a script starts.
#[test]
fn iipsrv_and_bosixnet_serve_from_their_packaged_units() {
    if !is_root() {
        return;
    }
    let listens = ["[\"127.0.0.1:9000\"]\nsocket = { backlog = 1024 }", "[\"127.0.0.1:33169\"]"];
    for (pool, listen, path, expect) in [
        ("iipsrv", listens[0], "/?FIF=PICTURE&OBJ=Max-size", "Max-size:64 64"),
        ("bosixnet-webui", listens[1], "/bosixnet/counter", "Counter: "),
    ] {
        let scene = Scene::new();
        let picture_file = scene.join("picture.tif");
        fs::write(&picture_file, picture()).expect("the scene is ours");
        let path = &path.replace("PICTURE", &picture_file.display().to_string());
        let said = import(&scene, &["unit", &format!("/lib/systemd/system/{pool}.service")]);
        // Anybody may connect to a port, so nginx may here.
        let place = format!("[\"unix:{}\"]\nsocket = {{ mode = \"0666\" }}", scene.join("pool.sock").display());
        let file = placed(&scene, &said.stdout, &[(listen, place.as_str())]);
        checked(&scene, &file);
        let mut daemon = started(&scene, &file, pool);
        let nginx = Nginx::start(&scene, &Address::Unix(scene.join("pool.sock")), "");
        let page = |when: &str| {
            let page = nginx.get(path).unwrap_or_else(|error| panic!("{pool} {when}: {error}"));
            assert!(page.status == 200 && page.body.contains(expect), "{pool} {when}: {page:?}");
        };
        page("at first");
        let worker = daemon.workers(pool)[0];
        proc::kill(worker, Signal::KILL).expect("it runs");
        page("with its worker killed");
        let said = daemon.verb(&["reload", "--wait"]);
        assert_eq!(said.code, 0, "{pool}: {}", said.stderr);
        page("after a reload");
        drop(nginx);
        daemon.stop_idle();
    }
}

#[test]
fn debians_own_pool_of_php_fpm_serves_by_php_cgi() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let said = import(&scene, &["php-fpm", "/etc/php/8.2/fpm/pool.d/www.conf"]);
    let socket = scene.join("www.sock").display().to_string();
    let file = placed(&scene, &said.stdout, &[("/run/php/php8.2-fpm.sock", socket.as_str())]);
    checked(&scene, &file);
    let script = scene.write("index.php", "<?php echo 'by ', php_sapi_name(), ' with ', php_ini_loaded_file();");
    let mut daemon = started(&scene, &file, "www");
    let extra = format!("fastcgi_param SCRIPT_FILENAME {};", script.display());
    let nginx = Nginx::start(&scene, &Address::Unix(scene.join("www.sock")), &extra);
    let page = nginx.get("/index.php").expect("nginx answers");
    assert_eq!(page.body, "by cgi-fcgi with /etc/php/8.2/fpm/php.ini", "{page:?}");
    drop(nginx);
    daemon.stop_idle();
}

#[test]
fn a_pool_of_php_fpm_serves_by_php_cgi() {
    let scene = Scene::new();
    let pool = format!(
        "[shop]\nuser = {USER}\ngroup = {USER}\nlisten = {}\nlisten.owner = {USER}\nlisten.mode = 0660\npm = dynamic\n\
         pm.max_children = 4\npm.start_servers = 1\npm.max_requests = 20\nchdir = /\nenv[SHOP] = \"a b\"\n\
         php_value[memory_limit] = 77M\nphp_admin_value[user_agent] = \"x y; z\"\nphp_flag[display_errors] = on\n",
        scene.join("shop.sock").display()
    );
    let pool = scene.write("shop.conf", &pool);
    let said = import(&scene, &["php-fpm", &pool.display().to_string()]);
    let file = placed(&scene, &said.stdout, &[]);
    checked(&scene, &file);
    let script = scene.write(
        "index.php",
        "<?php echo implode('|', [getenv('SHOP'), ini_get('memory_limit'), ini_get('user_agent'), ini_get('display_errors')]);",
    );
    let mut daemon = started(&scene, &file, "shop");
    let param = format!("SCRIPT_FILENAME={}", script.display());
    // Past max_requests of 20.
    for _ in 0..30 {
        let page = pinged(&scene, "shop.sock", &["/index.php", "--param", &param, "--param", "REDIRECT_STATUS=200"]);
        assert!(page.contains("a b|77M|x y; z|1"), "{page}");
    }
    daemon.stop_idle();
}

#[test]
fn what_is_lost_is_a_warning_with_its_line_and_nothing_is_overwritten() {
    let scene = Scene::new();
    let unit = debian("units/wwsympa.service");
    let said = import(&scene, &["unit", &unit, "-o", "out.toml"]);
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("wwsympa.service:22: PrivateTmp=true"), "{}", said.stderr);
    assert!(said.stderr.contains("next: steadfast check -c out.toml"), "{}", said.stderr);
    let text = fs::read_to_string(scene.join("out.toml")).expect("written");
    assert!(text.contains("#   wwsympa.service:22: PrivateTmp=true"), "{text}");
    let again = steadfast(scene.path(), &["import", "unit", &unit, "-o", "out.toml"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("nothing is overwritten"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(scene.join("out.toml")).expect("still there"), text);
    let said = import(&scene, &["unit", &unit, "--json"]);
    let document: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(document["pools"][0], "wwsympa");
    assert_eq!(document["warnings"][0]["line"], 22);
}

#[test]
fn what_cannot_be_a_pool_is_said() {
    let scene = Scene::new();
    for (arguments, code, message) in [
        (&["import", "unit", "/nowhere/x.service"][..], 1, "cannot read /nowhere/x.service"),
        (&["import", "unit", "/dev/zero"][..], 1, "it has more than 256 KiB"),
        (&["import", "php-fpm", "--", "x"][..], 2, "is read from a file"),
        (&["import", "spawn-fcgi", "--name", "a b", "--", "-s", "/run/a", "--", "/a"][..], 2, "cannot be the name"),
        (&["import", "spawn-fcgi", "--", "-s", "/run/a"][..], 1, "names no program"),
        (&["import", "unit"][..], 2, "required"),
        (&["import", "dance", "x"][..], 2, "invalid value"),
    ] {
        let said = steadfast(scene.path(), arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(message), "{arguments:?}: {}", said.stderr);
    }
}
