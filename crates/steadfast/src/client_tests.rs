//! A client against a supervisor that behaves and against one that does not.

use super::*;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use steadfast_proto::control::Refusal;

struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        Scene { directory: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    /// A supervisor that reads one line, writes these bytes and closes. It gives the line back.
    fn answers(&self, bytes: Vec<u8>) -> JoinHandle<Vec<u8>> {
        let listener = UnixListener::bind(self.path()).expect("bind");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut request = Vec::new();
            let mut byte = [0];
            while byte != [b'\n'] && stream.read(&mut byte).expect("read") == 1 {
                request.extend(byte);
            }
            // The client may leave before it has read all.
            let _ = stream.write_all(&bytes);
            request
        })
    }
}

fn ask(path: &Path) -> Result<Answer, Failure> {
    let mut client = Client::connect(path).expect("connect");
    client.ask(&Request::Status { pool: None }, Some(AT_ONCE))?;
    client.finish(|_, _| Ok(())).map(|(answer, _)| answer)
}

fn done(text: &str) -> Answer {
    Answer::Done { text: text.into() }
}

#[test]
fn the_final_answer_comes_after_progress() {
    let scene = Scene::new();
    let mut bytes = control::encode_answer(&Answer::Progress { text: "1 of 2".into() });
    bytes.extend(control::encode_answer(&done("reloaded")));
    bytes.extend(control::encode_answer(&done("never read")));
    let supervisor = scene.answers(bytes);
    let mut client = Client::connect(&scene.path()).expect("connect");
    client.ask(&Request::Stop { pool: Some("site".into()) }, Some(AT_ONCE)).expect("ask");
    let mut seen = Vec::new();
    let last = client.finish(|answer, _| {
        seen.push(answer);
        Ok(())
    });
    assert_eq!(last.expect("done").0, done("reloaded"));
    assert_eq!(seen, [Answer::Progress { text: "1 of 2".into() }]);
    let request = supervisor.join().expect("supervisor");
    assert_eq!(control::decode_request(&request), Ok(Request::Stop { pool: Some("site".into()) }));
}

#[test]
fn a_refusal_becomes_a_failure_with_its_code() {
    let scene = Scene::new();
    let refusal = Refusal::new(ExitCode::NotAllowed, "not you").with_hint("sudo");
    let supervisor = scene.answers(control::encode_answer(&Answer::Error(refusal)));
    assert_eq!(ask(&scene.path()), Err(Failure::new(ExitCode::NotAllowed, "not you").hint("sudo")));
    supervisor.join().expect("supervisor");
}

#[test]
fn garbage_halves_and_silence_are_told_apart() {
    for (bytes, told) in [
        (b"rubbish\n".to_vec(), "not understood"),
        (b"{\"ok\":true,\"type\":\"sing\"}\n".to_vec(), "not understood"),
        (b"{\"ok\":true".to_vec(), "middle of a line"),
        (Vec::new(), "before it had answered"),
    ] {
        let scene = Scene::new();
        let supervisor = scene.answers(bytes);
        let failure = ask(&scene.path()).expect_err(told);
        assert!(failure.message.contains(told), "{failure:?}");
        assert!(failure.hint.is_some());
        assert_eq!(failure.code, ExitCode::Failed);
        supervisor.join().expect("supervisor");
    }
}

#[test]
fn a_supervisor_that_says_nothing_is_waited_for_until_the_deadline() {
    let scene = Scene::new();
    let _listener = UnixListener::bind(scene.path()).expect("bind");
    let mut client = Client::connect(&scene.path()).expect("connect");
    client.ask(&Request::Status { pool: None }, Some(Duration::from_millis(20))).expect("ask");
    assert_eq!(client.next().expect_err("late").code, ExitCode::TimedOut);
}

#[test]
fn a_full_backlog_is_an_answer_and_no_hang() {
    let scene = Scene::new();
    let socket = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("socket");
    net::bind(&socket, &SocketAddrUnix::new(scene.path()).expect("address")).expect("bind");
    net::listen(&socket, 0).expect("listen");
    let mut kept = Vec::new();
    let failure = loop {
        match Client::connect(&scene.path()) {
            Ok(client) => kept.push(client),
            Err(Unreachable::Failed(failure)) => break failure,
            Err(other) => panic!("{other:?}"),
        }
        assert!(kept.len() < 100, "the backlog is never full");
    };
    assert_eq!(failure.code, ExitCode::TimedOut);
}

#[test]
fn absent_and_left_behind_sockets_let_another_place_be_tried() {
    let scene = Scene::new();
    assert!(matches!(Client::connect(&scene.path()), Err(Unreachable::Absent(why)) if why.contains("does not exist")));
    drop(UnixListener::bind(scene.path()).expect("bind"));
    assert!(matches!(Client::connect(&scene.path()), Err(Unreachable::Absent(why)) if why.contains("left behind")));
}

#[test]
fn a_socket_of_others_is_not_allowed() {
    let scene = Scene::new();
    let _listener = UnixListener::bind(scene.path()).expect("bind");
    std::fs::set_permissions(scene.path(), std::fs::Permissions::from_mode(0o000)).expect("chmod");
    if rustix::process::geteuid().is_root() {
        // No mode stops root; the mapping itself is what can be seen here.
        let Unreachable::Failed(failure) = unreachable(&scene.path(), Errno::ACCESS) else { panic!("failed") };
        assert_eq!(failure.code, ExitCode::NotAllowed);
        return;
    }
    let Err(Unreachable::Failed(failure)) = Client::connect(&scene.path()) else { panic!("refused") };
    assert_eq!(failure.code, ExitCode::NotAllowed);
}

#[test]
fn a_path_too_long_for_an_address_works_all_the_same() {
    let scene = Scene::new();
    let deep = scene.directory.path().join("d".repeat(120));
    std::fs::create_dir(&deep).expect("mkdir");
    let supervisor = scene.answers(control::encode_answer(&done("")));
    std::fs::rename(scene.path(), deep.join("control.sock")).expect("rename");
    assert_eq!(ask(&deep.join("control.sock")), Ok(done("")));
    supervisor.join().expect("supervisor");
}
