//! Each kind with what people write: quotes, expansions, numbers out of bounds, and everything that cannot be said.

use std::path::{Path, PathBuf};

use steadfast_import::draft::{Draft, Weight};
use steadfast_import::files::{Files, Nothing, Source};
use steadfast_import::{multiwatch, php_fpm, spawn_fcgi, supervisor, unit, write};

/// Files by their paths.
struct Given(Vec<(&'static str, &'static str)>);

impl Files for Given {
    fn read(&self, path: &Path) -> Result<String, String> {
        let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "it is not there".into())
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.0.iter().map(|(name, _)| PathBuf::from(name)).filter(|path| path.parent() == Some(directory)).collect()
    }
}

fn source(shown: &str, text: &str) -> Source {
    Source { shown: shown.into(), path: Some(Path::new("/etc").join(shown)), text: text.into() }
}

fn keys(draft: &Draft) -> String {
    let text = write::text(draft, &[]);
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| format!("{line}\n")).collect()
}

fn lost(draft: &Draft) -> Vec<String> {
    draft.notes_of(Weight::Lost).map(|(_, note)| write::shown(note)).collect()
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[track_caller]
fn tells(draft: &Draft, what: &[&str]) {
    let lost = lost(draft);
    for wanted in what {
        assert!(lost.iter().any(|line| line.contains(wanted)), "nothing says {wanted:?}: {lost:#?}");
    }
    assert_eq!(lost.len(), what.len(), "{lost:#?}");
}

#[test]
fn every_option_of_spawn_fcgi_is_a_key_or_is_told() {
    let line = "spawn-fcgi -d /srv -a 192.0.2.7 -p9000 -C 4 -F 3 -b 64 -P /run/x.pid -c /jail -S -u www -g web \
                -U sock -G socks -M 0600 -- /usr/bin/php-cgi -d x=y";
    let draft = spawn_fcgi::from_words(&words(line));
    assert_eq!(
        keys(&draft),
        "[pool.php-cgi]\ncommand = [\"/usr/bin/php-cgi\", \"-d\", \"x=y\"]\ndirectory = \"/srv\"\nuser = \"www\"\n\
         group = \"web\"\nlisten = [\"127.0.0.1:9000\"]\n\
         socket = { mode = \"0600\", owner = \"sock\", group = \"socks\", backlog = 64 }\nworkers = 12\n"
    );
    tells(&draft, &["-c /jail", "-S: a socket", "192.0.2.7:9000 was open to other machines"]);
}

#[test]
fn what_spawn_fcgi_cannot_start_is_no_pool() {
    for line in ["spawn-fcgi -s", "spawn-fcgi -x -- /a", "spawn-fcgi -v", "spawn-fcgi -s /run/a.sock", "spawn-fcgi"] {
        let draft = spawn_fcgi::from_words(&words(line));
        assert!(draft.pools.is_empty(), "{line}: {draft:?}");
        assert_eq!(lost(&draft).len(), 1, "{line}: {draft:?}");
    }
}

#[test]
fn the_old_option_f_is_a_shells_line() {
    let draft = spawn_fcgi::from_words(&[
        "-f".into(),
        "/srv/a.fcgi 'one two'".into(),
        "-s".into(),
        "/run/a.sock".into(),
        "-u".into(),
        "www".into(),
    ]);
    assert_eq!(draft.pools[0].command, ["/srv/a.fcgi", "one two"]);
    tells(&draft, &[]);
}

#[test]
fn multiwatch_multiplies() {
    let line =
        "spawn-fcgi -s /run/a.sock -n -u www -- /usr/bin/multiwatch -r 1 --forks=5 --signal=USR1 -- /srv/a.pl -f 9";
    let draft = multiwatch::from_words(&words(line));
    assert_eq!(
        keys(&draft),
        "[pool.a]\ncommand = [\"/srv/a.pl\", \"-f\", \"9\"]\ndirectory = \"/\"\nuser = \"www\"\n\
         listen = [\"unix:/run/a.sock\"]\nworkers = 5\n"
    );
    tells(&draft, &["multiwatch -s USR1"]);
}

#[test]
fn a_shell_script_has_variables_and_branches() {
    let text = "#!/bin/sh\n# spawn-fcgi -s /no -- /no\nNAME='my app'\nBIN=/usr/bin/spawn-fcgi\n. /etc/default/app\n\
                export LANG=C.UTF-8 OTHER\nif [ -x \"$BIN\" ]; then\n  A=1 exec $BIN -s \"/run/$NAME.sock\" \\\n    -u ${WHO:-nobody} -F $N -- \
                /srv/app \"$NAME\" $(hostname) >/dev/null 2>&1 &\nfi\n";
    let files = Given(vec![("/etc/default/app", "N=3 # three\nWHO=\n")]);
    let draft = spawn_fcgi::from_script(&source("app.sh", text), &files);
    assert_eq!(
        keys(&draft),
        "[pool.app]\ncommand = [\"/srv/app\", \"my app\", \"$(hostname)\"]\ndirectory = \"/\"\nuser = \"nobody\"\n\
         environment = { A = \"1\", LANG = \"C.UTF-8\" }\nlisten = [\"unix:/run/my app.sock\"]\nworkers = 3\n"
    );
    tells(&draft, &["app.sh:8: $(hostname) has no value"]);
}

#[test]
fn a_file_of_defaults_has_the_options_in_a_variable() {
    let text = "#SOCKET=/x\nSOCKET=/var/run/php-fcgi.sock\n\
                OPTIONS=\"-u apache -g apache -s $SOCKET -M 0600 -C 32 -F 1 -P /var/run/x.pid -- /usr/bin/php-cgi\"\n";
    let draft = spawn_fcgi::from_script(&source("spawn-fcgi", text), &Nothing);
    assert_eq!(
        keys(&draft),
        "[pool.php-cgi]\ncommand = [\"/usr/bin/php-cgi\"]\ndirectory = \"/\"\nuser = \"apache\"\ngroup = \"apache\"\n\
         listen = [\"unix:/var/run/php-fcgi.sock\"]\nsocket = { mode = \"0600\" }\nworkers = 32\n"
    );
    assert_eq!(draft.pools[0].place.shown(), "spawn-fcgi:3");
}

#[test]
fn supervisor_has_expansions_comments_and_quotes() {
    let text = "[supervisord]\nenvironment = ALL=\"1\"\nuser = web ; who\n\n[unix_http_server]\nfile=/x\n\n[include]\nfiles = conf.d/*.conf\n\n\
                [program:cron]\ncommand=/usr/sbin/cron -f\n\n[fcgi-program:site]\n\
                command = %(here)s/app \"a b\" --p=%(process_num)02d 100%% %(ENV_ALL)s;x ; a comment\n\
                socket = tcp://localhost:9001\nnumprocs = 3\nprocess_name = %(program_name)s_%(process_num)d\n\
                environment = A=\"x, y\",B='%(ENV_HOME)s',HOME=\"%(ENV_HOME)s\"\ndirectory = /srv\numask = 022\n\
                stopsignal = QUIT\nstopwaitsecs = 20\nautorestart = false\nstdout_logfile = /var/log/x\npriority = 5\nwhat = 1\n";
    let files = Given(vec![(
        "/etc/conf.d/b.conf",
        "[fcgi-program:b]\ncommand=/srv/b\nsocket=unix:///run/b.sock\nuser=b\nsocket_owner=www:web\nsocket_mode=0770\nsocket_backlog=9\n",
    )]);
    let draft = supervisor::from_file(&source("supervisord.conf", text), &files);
    assert_eq!(
        keys(&draft),
        "[pool.site]\ncommand = [\"/etc/app\", \"a b\", \"--p=0\", \"100%\", \"1;x\"]\ndirectory = \"/srv\"\nuser = \"web\"\n\
         environment = { A = \"x, y\", ALL = \"1\", B = \"%(ENV_HOME)s\" }\npass-environment = [\"HOME\"]\n\
         listen = [\"127.0.0.1:9001\"]\nworkers = 3\nstop-timeout = \"20s\"\numask = \"0022\"\n\
         [pool.b]\ncommand = [\"/srv/b\"]\ndirectory = \"/\"\nuser = \"b\"\nenvironment = { ALL = \"1\" }\n\
         listen = [\"unix:/run/b.sock\"]\nsocket = { mode = \"0770\", owner = \"www\", group = \"web\", backlog = 9 }\nworkers = 1\n"
    );
    tells(
        &draft,
        &[
            "supervisord.conf:19: %(ENV_HOME)s in the variable B",
            "stopsignal = QUIT",
            "autorestart = false",
            "stdout_logfile = /var/log/x",
            "what = 1: not translated",
        ],
    );
    let word = draft.notes_of(Weight::Word).any(|(_, note)| note.text.contains("[program:cron] has no FastCGI socket"));
    assert!(word, "{draft:?}");
}

#[test]
fn supervisor_alone_lets_nobody_else_in() {
    let text = "[fcgi-program:a]\ncommand=/a\nsocket=unix:///run/a.sock\nuser=a\n";
    let draft = supervisor::from_file(&source("a.conf", text), &Nothing);
    assert_eq!(draft.pools[0].socket.mode.as_deref(), Some("0700"));
}

#[test]
fn php_fpm_has_everything_of_a_pool() {
    let text = "[shop]\nuser = shop\nlisten = 127.0.0.1:9000\nlisten.allowed_clients = 127.0.0.1, ::1\npm = ondemand\n\
                pm.max_children = 8\npm.process_idle_timeout = 2m\npm.max_requests = 500\nchdir = /srv/$pool\n\
                request_terminate_timeout = 90\nrequest_slowlog_timeout = 3s\nslowlog = /var/log/$pool.slow\n\
                rlimit_files = 2048\nrlimit_core = unlimited\nenv[HOSTNAME] = $HOSTNAME\nenv[TMP] = /tmp\nenv[A] = $B\n\
                php_value[memory_limit] = 256M\nphp_flag[display_errors] = off\n\
                php_admin_value[open_basedir] = \"/srv/a b:/tmp\"\nphp_admin_flag[log_errors] = on\n\
                pm.status_path = /status\nsecurity.limit_extensions = .php ; only\nclear_env = no\nchroot = /jail\nwhat\n";
    let draft = php_fpm::from_file(&source("shop.conf", text), &Nothing);
    assert_eq!(
        keys(&draft),
        "[pool.shop]\ncommand = [\"/usr/bin/php-cgi\", \"-d\", \"memory_limit=256M\", \"-d\", \"display_errors=0\", \"-d\", \
         \"open_basedir=\\\"/srv/a b:/tmp\\\"\", \"-d\", \"log_errors=1\"]\ndirectory = \"/srv/shop\"\nuser = \"shop\"\n\
         environment = { PHP_FCGI_MAX_REQUESTS = \"0\", TMP = \"/tmp\" }\npass-environment = [\"HOSTNAME\"]\n\
         listen = [\"127.0.0.1:9000\"]\nsocket = { backlog = 511 }\nallowed-clients = [\"127.0.0.1\", \"::1\"]\n\
         workers = { min = 0, max = 8, idle = \"120s\" }\nmax-requests = 500\nrequest-timeout = \"90s\"\n\
         slow-request = \"3s\"\nrlimits = { core = \"unlimited\", nofile = 2048 }\n"
    );
    tells(
        &draft,
        &[
            "shop.conf:26: this line says nothing",
            "php-cgi has a php.ini of its own",
            "env[A] = $B",
            "php_admin_value[open_basedir]: scripts may change",
            "php_admin_flag[log_errors]: scripts may change",
            "pm.status_path",
            "security.limit_extensions = .php: not translated",
            "clear_env = no",
            "chroot = /jail",
            "php-fpm ran .php and .phar alone",
        ],
    );
}

#[test]
fn php_fpm_takes_the_settings_that_are_there() {
    let files = Given(vec![("/etc/php/8.2/fpm/php.ini", "")]);
    let path = Some("/etc/php/8.2/fpm/pool.d/www.conf".into());
    let text = "[www]\nuser=w\nlisten=9000\npm=static\npm.max_children=3\n".into();
    let draft = php_fpm::from_file(&Source { shown: "www.conf".into(), path, text }, &files);
    assert_eq!(draft.pools[0].command, ["/usr/bin/php-cgi8.2", "-c", "/etc/php/8.2/fpm/php.ini"]);
    assert_eq!(draft.pools[0].environment["PHP_INI_SCAN_DIR"], "/etc/php/8.2/fpm/conf.d");
    assert_eq!(draft.pools[0].listen, ["[::1]:9000"], "on every address, and nobody was named");
}

#[test]
fn a_unit_has_drop_ins_specifiers_and_limits() {
    let service = "[Unit]\nDescription=x\n[Service]\nUser=www\nWorkingDirectory=/srv/%i\nUMask=0027\nLimitNOFILE=512:2048\nLimitCORE=infinity\n\
                   TimeoutStopSec=1min 30s\nEnvironment=\"A=one two\" B=%p C=\\x41\nEnvironmentFile=/etc/app.env\nEnvironmentFile=/etc/none\n\
                   ExecStart=-/old\nExecStartPre=/bin/mkdir -p /run/x\nPrivateTmp=yes\n";
    let socket =
        "[Socket]\nListenStream=/run/x.sock\nListenStream=127.0.0.1:9000\nBacklog=7\nSocketMode=0600\nFreeBind=yes\n";
    let drop_in = "[Service]\nExecStart=\nExecStart=@/srv/run shown \"a b\" $A ${A} $$HOME ${NOT}\nEnvironment=\n";
    let files = Given(vec![
        ("/etc/systemd/system/app@1.service.d/z.conf", drop_in),
        ("/etc/app.env", "# c\nD=\"four five\"\n"),
        ("/lib/systemd/system/app@1.socket", socket),
    ]);
    let draft = unit::from_files(&[source("app@1.service", service)], &files);
    assert_eq!(
        keys(&draft),
        "[pool.app-1]\ncommand = [\"/srv/run\", \"a b\", \"\", \"$HOME\", \"\"]\ndirectory = \"/srv/1\"\nuser = \"www\"\n\
         environment = { D = \"four five\" }\nlisten = [\"unix:/run/x.sock\", \"127.0.0.1:9000\"]\n\
         socket = { mode = \"0600\", backlog = 7 }\npass = \"listen-fds\"\nworkers = 1\nstop-timeout = \"90s\"\numask = \"0027\"\n\
         rlimits = { core = \"unlimited\", nofile = 2048 }\n",
        "the drop-in has taken back the variables"
    );
    tells(
        &draft,
        &[
            "EnvironmentFile=/etc/none was not read",
            "LimitNOFILE=512:2048",
            "ExecStartPre=/bin/mkdir",
            "PrivateTmp=yes",
            "$A in ExecStart=",
            "$NOT in ExecStart=",
            "systemctl disable --now app@1.socket",
            "FreeBind=yes",
        ],
    );
}

#[test]
fn what_a_file_says_cannot_break_out_of_the_configuration() {
    let text =
        "[x\"]\nuser = \"a\\\"\nlisten = /run/a.sock\npm.max_children = 99999999\nenv[A\"B] = q\u{7}\ny = \u{1}\n";
    let draft = php_fpm::from_file(&source("a\nb.conf", text), &Nothing);
    let text = write::text(&draft, &["one\ntwo".into()]);
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with(['#', '[']) || line.contains(" = ")), "{text}");
    assert!(
        text.contains("[pool.x]") && text.contains("workers = 10000") && text.contains("\"A\\\"B\" = \"q\\u0007\""),
        "{text}"
    );
}

#[test]
fn two_pools_never_have_one_name() {
    let text = "spawn-fcgi -s /run/a -u w -- /srv/a.pl\nspawn-fcgi -s /run/b -u w -- /opt/a.pl\n";
    let draft = spawn_fcgi::from_script(&source("x", text), &Nothing);
    let names: Vec<&str> = draft.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["a", "a-2"]);
}
