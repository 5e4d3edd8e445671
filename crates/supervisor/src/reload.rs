//! Reads the configuration, opens what it needs before anything changes, and gives the policy what follows from it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use steadfast_config::command_line::{self, CommandLine};
use steadfast_config::load::{self, Context, Examined, Loaded};
use steadfast_config::machine::{self, Machine};
use steadfast_config::report::Report;
use steadfast_config::types::{self as config, Config};
use steadfast_policy::event::Event as Fact;
use steadfast_policy::ids::PoolId;
use steadfast_proto::control::Refusal;
use steadfast_proto::exit::ExitCode;

use crate::events::event::Event;
use crate::events::kind::Kind;
use crate::figures::figures;
use crate::front::{process, settings, tell};
use crate::inherited::Inherited;
use crate::launch::{Launch, Names};
use crate::lookout;
use crate::manager;
use crate::memory;
use crate::pools::{Plan, Pool, Pools};
use crate::shell::Shell;
use crate::sockets::{self, Refused};
use crate::upgrade::rescue::Variables;

/// Where a reload reads the configuration from again.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// This file.
    File(PathBuf),
    /// `run -- COMMAND`: a reload starts new generations with the same configuration.
    CommandLine(Box<CommandLine>),
}

impl ConfigSource {
    /// What it says now, as far as it can be read.
    pub fn examine(&self, context: &Context) -> Examined {
        match self {
            ConfigSource::File(path) => load::examine(path, context),
            ConfigSource::CommandLine(command_line) => command_line::examine(command_line, context),
        }
    }
}

/// The configuration's source and what it is compared with.
#[derive(Debug)]
pub(crate) struct Source {
    /// Where it is read from.
    pub(crate) config: ConfigSource,
    /// Our own directory, absolute.
    pub(crate) directory: PathBuf,
    /// Settled at start; a reload does not move it.
    pub(crate) runtime_dir: PathBuf,
    /// `[supervisor]` as it was at start; a reload changes nothing of it.
    pub(crate) supervisor: config::Supervisor,
    /// What came with us: its sockets can be taken once.
    pub(crate) inherited: Inherited,
    /// We may become somebody else.
    pub(crate) is_root: bool,
    /// The program's version, for the status document.
    pub(crate) version: &'static str,
    /// Where our own program lies on the disk.
    pub(crate) program: PathBuf,
    /// What we were started with.
    pub(crate) variables: Variables,
    /// How often another image has taken over.
    pub(crate) upgrades: u32,
}

impl Source {
    /// The program's version.
    pub(crate) fn version(&self) -> &'static str {
        self.version
    }

    /// Reads it again, and compares it with the machine.
    fn load(&self) -> Result<Loaded, Report> {
        let mut examined = self.config.examine(&Context { directory: self.directory.clone() });
        compare(&mut examined, &self.runtime_dir, &self.directory);
        examined.require_pools();
        examined.finish()
    }

    /// Whether the pools are still what the configuration says, so that another image of ours finds the same.
    ///
    /// # Errors
    /// Which is not; for people.
    pub(crate) fn is_unchanged(&self, pools: &Pools) -> Result<(), String> {
        let loaded = self.load().map_err(|report| format!("the configuration: {}", report.render(false)))?;
        let changed = loaded.config.pools.values().find(|config| {
            pools.named(&config.name).is_none_or(|pool| pool.is_leaving || *pool.plan.config != **config)
        });
        match changed {
            Some(config) => {
                Err(format!("the pool {} is another one in the configuration by now: reload first", config.name))
            }
            None if loaded.config.pools.len() == pools.names().count() => Ok(()),
            None => Err("a pool has left the configuration: reload first".to_owned()),
        }
    }

    /// Whether the machine has what the configuration speaks of.
    pub(crate) fn check(&self, loaded: &Loaded) -> Result<(), Report> {
        on_trial(loaded, &self.runtime_dir, &self.directory)
    }
}

/// Whether the machine has what a configuration speaks of, for a program that takes nothing over yet.
pub(crate) fn on_trial(loaded: &Loaded, runtime_dir: &Path, directory: &Path) -> Result<(), Report> {
    on_machine(runtime_dir, directory, |machine| machine::check_machine(loaded, machine))
}

/// Adds what the machine lacks to what is wrong with a configuration.
pub fn compare(examined: &mut Examined, runtime_dir: &Path, directory: &Path) {
    on_machine(runtime_dir, directory, |machine| machine::compare(examined, machine));
}

fn on_machine<T>(runtime_dir: &Path, directory: &Path, look: impl FnOnce(&Machine<'_>) -> T) -> T {
    let path = std::env::var("PATH").ok();
    look(&Machine {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        runtime_dir,
        directory,
        path: path.as_deref(),
        lookup: &Names,
    })
}

/// Reads the configuration again and asks for new generations, of all pools or of one. The pools that come are
/// returned. On an error nothing has changed, and people have been told.
pub(crate) fn reload(shell: &mut Shell, source: &mut Source, only: Option<&str>) -> Result<Vec<PoolId>, Refusal> {
    // Whoever is still on his way to be ready, or to leave, says only that.
    let is_told = shell.unsettled.is_empty() && !shell.is_stopping;
    if is_told {
        shell.notify.reloading();
    }
    let reloaded = try_reload(shell, source, only);
    if is_told && shell.unsettled.is_empty() {
        shell.notify.ready();
    }
    match &reloaded {
        Ok(_) => {
            shell.refusal = None;
            let event = Event::new(Kind::SupervisorReloaded);
            let event = match only.and_then(|name| shell.pools.named(name)) {
                Some(pool) => event.pool(&pool.name),
                None => event,
            };
            shell.emit(event);
        }
        Err(refusal) => {
            // A pool's name that is none is the operator's slip, and no state of ours.
            if only.is_none() && !shell.is_stopping {
                shell.refusal = Some(refusal.message.clone());
            }
            let event = Event::new(Kind::SupervisorRefused).reason(refusal.message.clone());
            shell.emit(event.message("the configuration was refused; nothing has changed"));
        }
    }
    reloaded
}

fn try_reload(shell: &mut Shell, source: &mut Source, only: Option<&str>) -> Result<Vec<PoolId>, Refusal> {
    if shell.is_stopping {
        return Err(Refusal::new(ExitCode::Failed, "the supervisor is stopping"));
    }
    let refused = |report: Report| Refusal::new(ExitCode::Configuration, report.render(false));
    let loaded = source.load().map_err(refused)?;
    if let Some(only) = only
        && !loaded.config.pools.contains_key(only)
    {
        let names: Vec<&str> = loaded.config.pools.keys().map(String::as_str).collect();
        return Err(Refusal::new(ExitCode::Failed, format!("no pool `{only}` in the configuration"))
            .with_hint(format!("pools: {}", names.join(", "))));
    }
    let plans = plan(shell, source, &loaded, only)
        .map_err(|refused| Refusal::new(ExitCode::from(refused.exit_code), refused.message))?;
    Ok(commit(shell, plans, only))
}

/// Opens every socket and settles every launch; what was opened for nothing is closed again.
pub(crate) fn plan(
    shell: &mut Shell,
    source: &mut Source,
    loaded: &Loaded,
    only: Option<&str>,
) -> Result<Vec<Plan>, Refused> {
    let config = &loaded.config;
    let known: BTreeSet<u64> = shell.pools.sockets().iter().map(|socket| socket.id).collect();
    let mut plans: Vec<Plan> = Vec::new();
    for pool in config.pools.values().filter(|pool| only.is_none_or(|only| only == pool.name)) {
        let refused = |message: String| Refused { message: format!("pool {}: {message}", pool.name), exit_code: 78 };
        let made = room(shell, source, config, pool)
            .and_then(|()| Launch::new(config, pool, &source.directory, source.is_root))
            .map_err(refused)
            .and_then(|launch| {
                let opened =
                    sockets::open(&mut shell.pools, &mut source.inherited, pool, &source.runtime_dir, source.is_root);
                opened.map(|sockets| Plan { config: Rc::new(pool.clone()), launch: Rc::new(launch), sockets })
            });
        match made {
            Ok(plan) => plans.push(plan),
            Err(refused) => {
                let opened = plans.iter().flat_map(|plan| &plan.sockets);
                for socket in opened.filter(|socket| !known.contains(&socket.id)) {
                    // One that systemd keeps since an earlier life of ours is found again by the next start.
                    if !manager::is_kept(shell, socket) {
                        socket.listener.borrow().unlink();
                    }
                }
                return Err(refused);
            }
        }
    }
    Ok(plans)
}

/// What a pool needs besides: a front, and directories for its workers' own sockets. The mode of a pool that
/// runs cannot change: its sockets cannot be in two hands.
fn room(shell: &mut Shell, source: &Source, config: &Config, pool: &config::Pool) -> Result<(), String> {
    let known = shell.pools.named(&pool.name).filter(|known| !known.is_leaving);
    if let Some(known) = known
        && known.plan.config.mode != pool.mode
    {
        return Err(
            "its `mode` cannot change while it runs: stop the supervisor and start it again, or give the pool \
                    another name and other addresses"
                .to_owned(),
        );
    }
    if settings::is_queued(pool) {
        process::settle(shell, config, source.is_root)?;
    }
    if settings::is_queued(pool) || pool.verify.is_some() {
        shell.front.rooms.open(&pool.name)?;
    }
    if pool.launch == config::Launch::Zygote {
        let launch = Launch::new(config, pool, &source.directory, source.is_root)?;
        if let Some(credentials) = launch.credentials() {
            shell.front.rooms.reach("the workers", credentials.uid, &credentials.groups)?;
        }
        shell.halls.open(&pool.name, launch.user(), shell.front.rooms.group)?;
    }
    Ok(())
}

/// Nothing can fail any more: the pools get their new plans, and the policy is told.
pub(crate) fn commit(shell: &mut Shell, plans: Vec<Plan>, only: Option<&str>) -> Vec<PoolId> {
    let names: BTreeSet<String> = plans.iter().map(|plan| plan.config.name.clone()).collect();
    let mut coming = Vec::new();
    for plan in plans {
        sockets::watch(shell, &plan.sockets);
        let figures = figures(&plan.config);
        let known = shell.pools.named(&plan.config.name).filter(|pool| !pool.is_leaving).map(|pool| pool.id);
        let id = match known.and_then(|id| shell.pools.get_mut(id)) {
            Some(pool) => {
                let before = std::mem::replace(&mut pool.plan, plan);
                let id = pool.id;
                let problems = sockets::adjust(&pool.plan.sockets, &before.sockets);
                problems.into_iter().for_each(|problem| shell.warn(problem));
                shell.facts.push_back(Fact::ReloadRequested { pool: id, figures });
                tell::pool(shell, id);
                lookout::watch_again(shell, id);
                id
            }
            None => {
                let id = shell.pools.next_id();
                // One that is on demand sleeps well: nobody waits to see it serve.
                if plan.config.workers.min > 0 {
                    shell.unsettled.insert(id);
                }
                shell.pools.insert(Pool::new(id, plan, shell.now));
                shell.facts.push_back(Fact::PoolAdded { pool: id, figures });
                tell::pool(shell, id);
                id
            }
        };
        memory::begin(shell, id);
        coming.push(id);
    }
    if only.is_none() {
        remove_others(shell, &names);
    }
    process::want(shell);
    coming
}

fn remove_others(shell: &mut Shell, names: &BTreeSet<String>) {
    let gone: Vec<(Arc<str>, PoolId)> = shell
        .pools
        .names()
        .filter(|(name, _)| !names.contains(&***name))
        .map(|(name, id)| (Arc::clone(name), id))
        .collect();
    for (_, id) in gone {
        if let Some(pool) = shell.pools.get_mut(id)
            && !std::mem::replace(&mut pool.is_leaving, true)
        {
            shell.facts.push_back(Fact::RemovalRequested { pool: id });
            tell::pool(shell, id);
        }
    }
}
