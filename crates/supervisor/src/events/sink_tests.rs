//! Readers that are slow, gone, frozen or back.

use std::os::unix::net::UnixDatagram;

use super::*;

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe")
}

/// What lies in a pipe or socket now.
fn read_now(fd: &OwnedFd) -> Vec<u8> {
    let mut text = Vec::new();
    let mut buffer = [0u8; 65_536];
    loop {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&none)).expect("poll") == 0 {
            return text;
        }
        let count = rustix::io::read(fd, &mut buffer).expect("read");
        text.extend_from_slice(&buffer[..count]);
        if count == 0 {
            return text;
        }
    }
}

fn is_nonblocking(fd: &OwnedFd) -> bool {
    rustix::fs::fcntl_getfl(fd).expect("flags").contains(OFlags::NONBLOCK)
}

#[test]
fn a_slow_reader_never_blocks_us_and_loses_only_the_oldest() {
    let (reader, writer) = pipe();
    let (stream, socket_writer) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("pair");
    for (reader, writer) in [(reader, writer), (stream, socket_writer)] {
        let shared = writer.try_clone().expect("clone");
        let mut sink = Sink::stream(writer);
        // Three times what the queue holds, and nobody reads.
        for number in 0..30_000u32 {
            sink.push(format!("{number:099}\n").into_bytes());
            sink.drain();
        }
        assert!(sink.bytes <= QUEUE_MAX && sink.blocked_fd().is_some());
        assert!(!is_nonblocking(&shared), "the flag of a shared description is not ours");
        let dropped = sink.take_dropped();
        assert!(dropped > 15_000, "{dropped}");
        let mut text = read_now(&reader);
        while !sink.drain() {
            text.extend(read_now(&reader));
        }
        text.extend(read_now(&reader));
        let text = String::from_utf8(text).expect("UTF-8");
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().expect("whole lines")).collect();
        assert!(numbers.is_sorted() && numbers.last() == Some(&29_999));
        assert_eq!(numbers.len() as u64 + dropped, 30_000, "every line is written or counted");
        assert!(sink.blocked_fd().is_none());
    }
}

#[test]
fn a_pipe_that_cannot_be_reopened_is_polled() {
    let (reader, writer) = pipe();
    let mut sink = Sink::new(Way::Shared(writer));
    for _ in 0..100 {
        sink.push(vec![b'x'; 10_000]);
    }
    assert!(!sink.drain());
    let mut count = 0;
    loop {
        count += read_now(&reader).len();
        if sink.drain() {
            break;
        }
    }
    count += read_now(&reader).len();
    assert_eq!(count, 1_000_000);
}

#[test]
fn a_reader_that_is_gone_costs_lines_and_nothing_else() {
    let (reader, writer) = pipe();
    drop(reader);
    let mut sink = Sink::stream(writer);
    sink.push(b"lost\n".to_vec());
    assert!(sink.drain());
    assert_eq!(sink.take_dropped(), 1);
}

#[test]
fn a_regular_file_is_written_and_a_full_disk_is_counted() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("log");
    let mut sink = Sink::stream(std::fs::File::create(&path).expect("create").into());
    sink.push(vec![b'x'; 100_000]);
    assert!(sink.drain());
    assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 100_000);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("open");
    let mut sink = Sink::stream(full.into());
    sink.push(b"no room\n".to_vec());
    assert!(sink.drain());
    assert_eq!(sink.take_dropped(), 1);
}

#[test]
fn a_journal_that_comes_back_is_found_again() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("socket");
    let text = path.to_str().expect("UTF-8");
    let mut sink = Sink::datagram(text);
    sink.push(b"A=1\n".to_vec());
    assert!(!sink.drain(), "nobody is there yet");
    assert!(sink.blocked_fd().is_none(), "so there is nobody to wait for");
    let first = UnixDatagram::bind(&path).expect("bind");
    sink.push(b"B=2\n".to_vec());
    assert!(sink.drain());
    let mut buffer = [0u8; 64];
    for wanted in [b"A=1\n", b"B=2\n"] {
        let count = first.recv(&mut buffer).expect("datagram");
        assert_eq!(&buffer[..count], wanted);
    }
    drop(first);
    std::fs::remove_file(&path).expect("remove");
    let second = UnixDatagram::bind(&path).expect("bind");
    sink.push(b"C=3\n".to_vec());
    assert!(sink.drain());
    let count = second.recv(&mut buffer).expect("datagram");
    assert_eq!(&buffer[..count], b"C=3\n");
}

#[test]
fn a_frozen_journal_blocks_nobody() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("socket");
    let _frozen = UnixDatagram::bind(&path).expect("bind");
    let mut sink = Sink::datagram(path.to_str().expect("UTF-8"));
    for _ in 0..100_000 {
        sink.push(vec![b'x'; 100]);
        sink.drain();
    }
    assert!(sink.blocked_fd().is_some() && sink.bytes <= QUEUE_MAX);
    assert!(sink.take_dropped() > 80_000);
}
