//! What Debian's own packages say, translated: each file under tests/debian beside what becomes of it.

use std::fs;
use std::path::{Path, PathBuf};

use steadfast_import::draft::{Draft, Weight, Workers};
use steadfast_import::files::{Files, Nothing, Source};
use steadfast_import::{php_fpm, spawn_fcgi, unit, write};

/// Debian's files, as if they were this machine's.
struct Debian;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/debian")
}

impl Files for Debian {
    fn read(&self, path: &Path) -> Result<String, String> {
        let path = if path.starts_with(root()) {
            path.to_owned()
        } else {
            root().join(path.strip_prefix("/").expect("whole"))
        };
        fs::read_to_string(path).map_err(|error| error.to_string())
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        let path = root().join(directory.strip_prefix("/").unwrap_or(directory));
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| directory.join(entry.file_name())).collect()
    }
}

fn source(name: &str) -> Source {
    let path = root().join(name);
    Source { shown: name.to_owned(), text: fs::read_to_string(&path).expect(name), path: Some(path) }
}

fn units(names: &[&str]) -> Draft {
    let sources: Vec<Source> = names.iter().map(|name| source(&format!("units/{name}"))).collect();
    unit::from_files(&sources, &Debian)
}

/// The keys alone, without comments.
fn keys(draft: &Draft) -> String {
    let text = write::text(draft, &[]);
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn lost(draft: &Draft) -> Vec<String> {
    draft.notes_of(Weight::Lost).map(|(_, note)| write::shown(note)).collect()
}

#[test]
fn rt5_has_its_number_of_workers_from_its_defaults() {
    let draft = units(&["rt5-fcgi.service"]);
    assert_eq!(
        keys(&draft),
        "[pool.rt5-fcgi]\ncommand = [\"/usr/share/request-tracker5/libexec/rt-server.fcgi\"]\ndirectory = \"/\"\n\
         user = \"www-data\"\ngroup = \"www-data\"\nenvironment = { enabled = \"0\", workers = \"2\" }\n\
         listen = [\"unix:/var/run/rt5-fcgi.sock\"]\nworkers = 2\n"
    );
    assert_eq!(lost(&draft), Vec::<String>::new());
    let without = unit::from_files(&[source("units/rt5-fcgi.service")], &Nothing);
    assert_eq!(without.pools[0].environment.len(), 1, "the unit's own word counts where there are no defaults");
}

#[test]
fn sympa_has_multiwatch_and_a_socket_unit_beside_it() {
    let draft = units(&["wwsympa.service"]);
    assert_eq!(
        keys(&draft),
        "[pool.wwsympa]\ncommand = [\"/usr/lib/cgi-bin/sympa/wwsympa.fcgi\"]\ndirectory = \"/\"\nuser = \"sympa\"\n\
         group = \"sympa\"\nenvironment = { WWS_FCGI_CHILDREN = \"5\" }\nlisten = [\"unix:/run/sympa/wwsympa.socket\"]\n\
         socket = { mode = \"0660\", owner = \"www-data\", group = \"www-data\" }\nworkers = 5\n"
    );
    let lost = lost(&draft);
    assert!(lost[0].starts_with("units/wwsympa.service:22: PrivateTmp=true"), "{lost:?}");
    assert!(lost[1].contains("systemctl disable --now wwsympa.socket"), "{lost:?}");
    assert!(lost[2].contains("echo 'd /run/sympa 0755 root root' > /etc/tmpfiles.d/steadfast-sympa.conf"), "{lost:?}");
    assert_eq!(lost.len(), 3, "{lost:?}");
    let both = units(&["wwsympa.service", "sympasoap.service", "sympasoap.socket"]);
    let workers: Vec<_> = both.pools.iter().map(|pool| pool.workers.clone()).collect();
    assert_eq!(workers, [Some(Workers::Fixed(5)), Some(Workers::Fixed(2))]);
}

#[test]
fn munin_has_a_plain_worker_on_stdin() {
    let draft = units(&["munin-html.service", "munin-html.socket"]);
    assert_eq!(
        keys(&draft),
        "[pool.munin-html]\ncommand = [\"/usr/lib/munin/cgi/munin-cgi-html\"]\ndirectory = \"/\"\nuser = \"munin\"\n\
         group = \"munin\"\nlisten = [\"unix:/run/munin/fcgi-html.sock\"]\nsocket = { mode = \"0666\" }\nworkers = 1\n"
    );
    // The package itself lets its directory be made at each boot.
    assert!(!lost(&draft).iter().any(|note| note.contains("tmpfiles")), "{draft:?}");
}

#[test]
fn a_unit_that_starts_a_script_starts_what_the_script_starts() {
    let draft = units(&["bosixnet-webui.service"]);
    assert_eq!(
        keys(&draft),
        "[pool.bosixnet-webui]\ncommand = [\"/usr/bin/bosixnet_webui\"]\ndirectory = \"/\"\nuser = \"bosixnet\"\n\
         group = \"bosixnet\"\nlisten = [\"127.0.0.1:33169\"]\nworkers = 1\n"
    );
    let lost = lost(&draft);
    assert!(lost[0].starts_with("/usr/lib/bosixnet/webui_launcher:40: $E has no value here"), "{lost:?}");
    assert!(lost[1].contains("env $E: left out"), "{lost:?}");
    assert!(lost[2].contains("0.0.0.0:33169 was open to other machines"), "{lost:?}");
    assert_eq!(lost.len(), 3, "{lost:?}");
    let script = spawn_fcgi::from_script(&source("usr/lib/bosixnet/webui_launcher"), &Debian);
    assert_eq!(script.pools[0].command, draft.pools[0].command);
}

#[test]
fn a_server_of_images_that_binds_by_itself_gets_its_socket() {
    let draft = units(&["iipsrv.service"]);
    assert_eq!(
        keys(&draft),
        "[pool.iipsrv]\ncommand = [\"/usr/lib/iipimage-server/iipsrv.fcgi\"]\ndirectory = \"/\"\nuser = \"www-data\"\n\
         group = \"www-data\"\nlisten = [\"127.0.0.1:9000\"]\nsocket = { backlog = 1024 }\nworkers = 1\n"
    );
    // The package names a file that it does not have.
    assert!(lost(&draft)[0].contains("EnvironmentFile=/etc/default/iipsrv was not read"), "{draft:?}");
}

#[test]
fn a_unit_without_a_socket_is_no_pool() {
    let draft = units(&["munin-node.service"]);
    assert!(draft.pools.is_empty());
    assert!(lost(&draft)[0].contains("has no socket for FastCGI"), "{draft:?}");
    let own = units(&["lemonldap-ng-fastcgi-server.service"]);
    assert!(own.pools.is_empty());
    assert!(lost(&own)[0].contains("steadfast init -- /usr/sbin/llng-fastcgi-server"), "{own:?}");
    let alone = units(&["fcgiwrap.socket"]);
    assert!(lost(&alone)[0].contains("no service"), "{alone:?}");
}

#[test]
fn init_scripts_are_read_up_to_their_start() {
    let draft = spawn_fcgi::from_script(&source("etc/init.d/rt5-fcgi"), &Debian);
    assert_eq!(
        keys(&draft),
        "[pool.rt-server]\ncommand = [\"/usr/share/request-tracker5/libexec/rt-server.fcgi\"]\ndirectory = \"/\"\n\
         user = \"www-data\"\ngroup = \"www-data\"\n\
         environment = { RT_SITE_CONFIG = \"/etc/request-tracker5/RT_SiteConfig.pm\" }\n\
         listen = [\"unix:/var/run/rt5-fcgi.sock\"]\nworkers = 2\n"
    );
    let draft = spawn_fcgi::from_script(&source("etc/init.d/munin-cgi-html.init"), &Debian);
    assert_eq!(
        keys(&draft),
        "[pool.munin-cgi-html]\ncommand = [\"/usr/lib/munin/cgi/munin-cgi-html\"]\ndirectory = \"/\"\nuser = \"munin\"\n\
         group = \"munin\"\nlisten = [\"unix:/run/munin/munin-cgi-html.socket\"]\nsocket = { owner = \"www-data\" }\n\
         workers = 1\n"
    );
}

#[test]
fn run_scripts_have_variables_before_their_command() {
    let draft = spawn_fcgi::from_script(&source("run-php"), &Debian);
    assert_eq!(
        keys(&draft),
        "[pool.php5-cgi]\ncommand = [\"/usr/bin/php5-cgi\"]\ndirectory = \"/\"\nuser = \"xxx\"\n\
         environment = { PHP_FCGI_MAX_REQUESTS = \"1000\" }\nlisten = [\"unix:/var/run/lighttpd/php-xxx.sock\"]\n\
         socket = { owner = \"www-data\" }\nworkers = 2\n"
    );
    // What a loop builds is not known, and told.
    let draft = spawn_fcgi::from_script(&source("run-generic"), &Debian);
    assert_eq!(draft.pools[0].command, ["/usr/bin/php5-cgi"]);
    assert!(lost(&draft).iter().any(|line| line.contains("fill in `environment`")), "{:?}", lost(&draft));
}

#[test]
fn php_fpm_becomes_php_cgi_with_its_settings() {
    let fpm = source("etc/php/8.2/fpm/php-fpm.conf");
    let draft = php_fpm::from_file(&fpm, &Debian);
    assert_eq!(draft.pools.len(), 1, "the file is included");
    assert_eq!(
        keys(&draft),
        "[pool.www]\ncommand = [\"/usr/bin/php-cgi8.2\"]\ndirectory = \"/\"\nuser = \"www-data\"\ngroup = \"www-data\"\n\
         environment = { PHP_FCGI_MAX_REQUESTS = \"0\" }\nlisten = [\"unix:/run/php/php8.2-fpm.sock\"]\n\
         socket = { owner = \"www-data\", group = \"www-data\", backlog = 511 }\nworkers = { min = 2, max = 5 }\n"
    );
    let alone = php_fpm::from_file(&source("etc/php/8.2/fpm/pool.d/www.conf"), &Nothing);
    assert_eq!(keys(&alone), keys(&draft));
}
