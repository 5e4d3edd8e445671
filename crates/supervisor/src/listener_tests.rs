//! Real sockets: stale, live, lost, taken and impossible ones.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;
use crate::path_watch::PathWatch;

fn spec(path: &Path) -> UnixSpec {
    UnixSpec { path: path.to_owned(), mode: 0o660, uid: None, gid: None, backlog: 16 }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("directory");
    entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect()
}

#[test]
fn a_unix_socket_listens_with_its_mode_and_owner() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("site.sock");
    let is_root = rustix::process::getuid().is_root();
    let (uid, gid) = if is_root { (Some(1), Some(2)) } else { (None, None) };
    let listener = Listener::bind_unix(&UnixSpec { uid, gid, mode: 0o606, ..spec(&path) }).expect("bind");
    let metadata = fs::metadata(&path).expect("metadata");
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o606);
    if is_root {
        assert_eq!((metadata.uid(), metadata.gid()), (1, 2));
    }
    UnixStream::connect(&path).expect("connect");
    assert_eq!(names(directory.path()), ["site.sock"], "no temporary name stays");
    assert_eq!(listener.address(), format!("unix:{}", path.display()));
    assert!(!listener.is_tcp());
    let flags = rustix::fs::fcntl_getfl(&listener).expect("flags");
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "workers expect a blocking accept");
    assert!(rustix::io::fcntl_getfd(&listener).expect("flags").contains(rustix::io::FdFlags::CLOEXEC));
    listener.unlink();
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("site.sock");
    drop(UnixListener::bind(&path).expect("bind"));
    assert!(UnixStream::connect(&path).is_err());
    let _listener = Listener::bind_unix(&spec(&path)).expect("replaced");
    UnixStream::connect(&path).expect("connect");
}

#[test]
fn a_live_socket_is_never_touched_even_when_its_backlog_is_full() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("site.sock");
    let theirs = Listener::bind_unix(&UnixSpec { backlog: 0, ..spec(&path) }).expect("bind");
    let inode = fs::metadata(&path).expect("metadata").ino();
    // With a backlog of 0 one connection fits: the first attempt's own. The second meets EAGAIN.
    for _ in 0..2 {
        let error = Listener::bind_unix(&spec(&path)).expect_err("it lives");
        assert_eq!(error.exit_code(), 75);
        let text = error.to_string();
        let start = format!("cannot listen on unix:{}: take the path: Address already in use", path.display());
        assert!(text.starts_with(&start) && text.contains("another process listens on it"), "{text}");
    }
    assert_eq!(fs::metadata(&path).expect("metadata").ino(), inode);
    assert_eq!(names(directory.path()), ["site.sock"]);
    drop(theirs);
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("precious");
    fs::write(&path, "data").expect("write");
    let error = Listener::bind_unix(&spec(&path)).expect_err("a file");
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("something that is no socket"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "data");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).expect("link");
    assert_eq!(Listener::bind_unix(&spec(&link)).expect_err("a link").exit_code(), 78);
    assert_eq!(names(directory.path()).len(), 2);
}

#[test]
fn paths_that_cannot_work_say_why() {
    let directory = tempfile::tempdir().expect("directory");
    let long = directory.path().join("x".repeat(108));
    for (path, code, words) in [
        (PathBuf::from("/no/such/directory/x.sock"), 78, "directory does not exist"),
        (PathBuf::from("relative.sock"), 78, "cannot listen on unix:relative.sock: name the socket"),
        (PathBuf::from("/etc/passwd/x.sock"), 78, "is no directory"),
        (long, 78, "at most 107 bytes"),
    ] {
        let error = Listener::bind_unix(&spec(&path)).expect_err("impossible");
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_path_of_exactly_107_bytes_works() {
    let directory = tempfile::tempdir().expect("directory");
    let deep = directory.path().join("d".repeat(104 - directory.path().as_os_str().len()));
    fs::create_dir(&deep).expect("directory");
    let path = deep.join("s");
    assert_eq!(path.as_os_str().len(), 107);
    let _listener = Listener::bind_unix(&spec(&path)).expect("bind");
    UnixStream::connect(&path).expect("connect");
    assert_eq!(names(&deep), ["s"]);
}

#[test]
fn an_owner_that_cannot_be_set_is_not_allowed_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("site.sock");
    // The number that means "no change" cannot be an owner, so give away as somebody else would: without root.
    if rustix::process::getuid().is_root() {
        return;
    }
    let error = Listener::bind_unix(&UnixSpec { uid: Some(0), ..spec(&path) }).expect_err("not root");
    assert_eq!(error.exit_code(), 77);
    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn a_lost_path_is_noticed_and_bound_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("site.sock");
    let mut listener = Listener::bind_unix(&spec(&path)).expect("bind");
    let mut watch = PathWatch::new().expect("inotify");
    watch.add(listener.socket_path().expect("path")).expect("add");
    assert!(!watch.drain());
    fs::write(directory.path().join("other"), "").expect("write");
    assert!(!watch.drain(), "other files wake nobody for nothing");
    assert!(listener.socket_path().expect("path").still_ours());
    fs::remove_file(&path).expect("remove");
    assert!(watch.drain());
    assert!(!listener.socket_path().expect("path").still_ours());
    let old = listener.inode();
    listener.rebind().expect("rebind");
    assert!(listener.socket_path().expect("path").still_ours());
    assert_ne!(listener.inode(), old);
    UnixStream::connect(&path).expect("connect");
    assert!(watch.drain());
    fs::remove_dir_all(directory.path()).expect("remove");
    assert!(watch.drain(), "the whole directory is gone");
}

#[test]
fn anothers_socket_is_not_unlinked_at_the_end() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("site.sock");
    let mut listener = Listener::bind_unix(&spec(&path)).expect("bind");
    fs::remove_file(&path).expect("remove");
    let _theirs = UnixListener::bind(&path).expect("bind");
    assert!(!listener.socket_path().expect("path").still_ours());
    listener.unlink();
    UnixStream::connect(&path).expect("theirs is still there");
    assert_eq!(listener.rebind().expect_err("theirs lives").exit_code(), 75);
}

#[test]
fn tcp_listens_on_both_families_and_names_a_taken_port() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = Listener::bind_tcp(address.parse().expect("address"), 16).expect("bind");
        let local = listener.local_address().expect("bound");
        std::net::TcpStream::connect(local).expect("connect");
        assert!(listener.is_tcp() && listener.socket_path().is_none());
        let error = Listener::bind_tcp(local, 16).expect_err("taken");
        assert_eq!(error.exit_code(), 75);
        assert!(error.to_string().starts_with(&format!("cannot listen on {local}: ")), "{error}");
    }
    let error = Listener::bind_tcp("192.0.2.1:9000".parse().expect("address"), 1).expect_err("not ours");
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn a_v6_wildcard_leaves_v4_to_others() {
    let v6 = Listener::bind_tcp("[::]:0".parse().expect("address"), 1).expect("bind");
    let port = v6.local_address().expect("bound").port();
    Listener::bind_tcp(([0, 0, 0, 0], port).into(), 1).expect("the same port on v4");
}
