//! A Perl site that is deployed as people do it: releases, and a `current` symlink that is switched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::daemon::{Daemon, Pool, Said};
use super::scene::{Scene, allow};

/// All releases of one site, in a scene.
#[derive(Debug)]
pub struct Releases<'a> {
    scene: &'a Scene,
}

impl<'a> Releases<'a> {
    /// None yet. The Perl module is copied to where every user may read it.
    #[must_use]
    pub fn new(scene: &'a Scene) -> Releases<'a> {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../perl/lib"), &scene.join("perl"));
        let releases = Releases { scene };
        releases.directory("releases");
        releases
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.scene.join(name);
        fs::create_dir_all(&path).expect("a directory in the scene can be made");
        allow(&path, 0o755);
        path
    }

    /// A release that goes wrong in this way (see apps/site.fcgi); `good` is a good one.
    pub fn make(&self, name: &str, way: &str) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../steadfast/tests/apps/site.fcgi");
        let mut text = fs::read_to_string(program).expect("the site's program is there");
        if way == "no-compile" {
            text.push_str("\nsub unfinished {\n");
        }
        self.directory(&format!("releases/{name}"));
        self.scene.write(&format!("releases/{name}/way"), way);
        self.scene.program(&format!("releases/{name}/site.fcgi"), &text);
    }

    /// `current` leads there from now on.
    pub fn deploy(&self, name: &str) {
        Releases::switch(self.scene, name);
    }

    /// The same, of any site that is deployed like this.
    pub fn switch(scene: &Scene, name: &str) {
        let (aside, current) = (scene.join("current.new"), scene.join("current"));
        symlink(Path::new("releases").join(name), &aside).expect("a link in the scene can be made");
        fs::rename(aside, current).expect("a link in the scene can be renamed");
    }

    /// A release is made and deployed.
    pub fn release(&self, name: &str, way: &str) {
        self.make(name, way);
        self.deploy(name);
    }

    /// Perl programs of this pool find the module.
    #[must_use]
    pub fn module(&self, pool: Pool) -> Pool {
        pool.environment("PERL5LIB", &self.scene.join("perl").display().to_string())
    }

    /// The site as a pool: four workers from a zygote, or executed one by one.
    #[must_use]
    pub fn pool(&self, launch: &str) -> Pool {
        self.direct(launch).queue()
    }

    /// The same, without anything between visitors and workers.
    #[must_use]
    pub fn direct(&self, launch: &str) -> Pool {
        self.module(Pool::new("site", &["/usr/bin/perl", "site.fcgi"]))
            .workers("4")
            .key("launch", &format!("{launch:?}"))
            .directory(self.scene.join("current"))
            .table("verify", "request = \"GET /health\"\nexpect = { status = 200, body = \"ok\" }")
    }
}

/// Copies a tree to where every user may read it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory in the scene can be made");
    allow(to, 0o755);
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())).flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).expect("a file can be copied into the scene");
            allow(&target, 0o644);
        }
    }
}

/// `reload site --wait`, to its end.
#[must_use]
pub fn reload(daemon: &Daemon, within: Duration) -> Said {
    daemon.verb(&["reload", "site", "--wait", "--timeout", &format!("{}s", within.as_secs())])
}
