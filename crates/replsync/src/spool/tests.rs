//! The queue beside a `VecDeque`; what disks do; what is left in the folder.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::disk::Shared;
use super::pulse::Pulse;
use super::queue::queue_of_segments;
use super::segment::Segment;
use super::state::Next;
use super::*;

mod log;

/// Bytes, or something that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    Bytes(Vec<u8>),
    Unwritable(usize),
}

impl Item for Thing {
    fn cost_bytes(&self) -> usize {
        match self {
            Thing::Bytes(bytes) => bytes.len(),
            Thing::Unwritable(_) => 0,
        }
    }

    fn encode(&self, record: &mut Record<'_>) -> bool {
        let Thing::Bytes(bytes) = self else { return false };
        // In pieces of all sizes, as events are.
        record.put(&bytes[..bytes.len() / 3]);
        record.put(&bytes[bytes.len() / 3..]);
        true
    }

    fn decode(body: BytesMut) -> Option<Self> {
        (&body[..] != b"nonsense").then(|| Thing::Bytes(body.to_vec()))
    }
}

/// A folder of this process's own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("replsync-spool-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn config(&self, memory_bytes: usize) -> Config {
        Config { folder: self.0.clone(), memory_bytes, ..Config::default() }
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn bytes(len: usize, seed: usize) -> Thing {
    Thing::Bytes((0..len).map(|at| (at * 31 + seed * 7) as u8).collect())
}

/// How many files this process holds open in that folder; they have no names.
fn files_open(folder: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap();
    let open = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
    open.filter(|target| target.starts_with(folder)).count()
}

/// Until the threads have done what was asked.
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn no_file_is_open(folder: &Folder) {
    eventually("no file is open", || files_open(&folder.0) == 0);
}

/// The file that is read, for a test to spoil: once all is written.
fn file(receiver: &Receiver<Thing>) -> Arc<Segment> {
    eventually("all is written", || receiver.shared().lock().waiting_bytes() == 0);
    receiver.shared().lock().segments[0].segment.clone()
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    SendUnwritable,
    Receive(usize),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0usize..300).prop_map(Step::Send),
        1 => (200_000usize..600_000).prop_map(Step::Send),
        2 => Just(Step::SendUnwritable),
        8 => (1usize..6).prop_map(Step::Receive),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn it_is_a_queue(steps in steps(), memory_bytes in 0usize..600, segment_bytes in 1u64..2_000) {
        let folder = Folder::new("queue");
        runtime().block_on(async {
            let (mut sender, mut receiver) = queue_of_segments(folder.config(memory_bytes), segment_bytes);
            let gauge = receiver.gauge();
            let (mut model, mut most) = (VecDeque::new(), 0);
            for (number, step) in steps.into_iter().enumerate() {
                let item = match step {
                    Step::Send(len) => Some(bytes(len, number)),
                    Step::SendUnwritable => Some(Thing::Unwritable(number)),
                    Step::Clear => {
                        sender.clear();
                        model.clear();
                        None
                    }
                    Step::Receive(count) => {
                        for _ in 0..count {
                            let Some(expected) = model.pop_front() else { break };
                            prop_assert_eq!(receiver.recv().await.unwrap(), Some(expected));
                        }
                        None
                    }
                };
                if let Some(item) = item {
                    sender.send(item.clone()).unwrap();
                    model.push_back(item);
                }
                most = most.max(gauge.bytes());
                prop_assert_eq!(folder.files(), 0);
                if model.is_empty() {
                    prop_assert_eq!(gauge.bytes(), 0);
                    no_file_is_open(&folder);
                }
            }
            prop_assert_eq!(gauge.bytes_max(), most);
            drop(sender);
            for expected in model {
                prop_assert_eq!(receiver.recv().await.unwrap(), Some(expected));
            }
            prop_assert_eq!(receiver.recv().await.unwrap(), None);
            prop_assert_eq!(gauge.bytes(), 0);
            no_file_is_open(&folder);
            Ok(())
        })?;
    }

    #[test]
    fn a_changed_byte_anywhere_is_found(
        lens in prop::collection::vec(0usize..200, 1..5),
        at: prop::sample::Index,
        change in 1u8..,
    ) {
        let folder = Folder::new("changed");
        runtime().block_on(async {
            let (mut sender, mut receiver) = queue_of_segments(folder.config(0), 1 << 20);
            sender.send(Thing::Unwritable(0)).unwrap(); // the one that waits in memory
            let count = lens.len();
            for (number, len) in lens.into_iter().enumerate() {
                sender.send(bytes(len, number)).unwrap();
            }
            let segment = file(&receiver);
            let at = at.index(segment.file.metadata().unwrap().len() as usize) as u64;
            let mut byte = [0];
            segment.file.read_exact_at(&mut byte, at).unwrap();
            segment.file.write_all_at(&[byte[0] ^ change], at).unwrap();
            receiver.recv().await.unwrap();
            for _ in 0..count {
                match receiver.recv().await {
                    Ok(item) => prop_assert!(item.is_some()),
                    Err(error) => {
                        prop_assert!(matches!(error, Error::Corrupt { .. }), "{}", error);
                        prop_assert!(receiver.recv().await.unwrap().is_none(), "nothing more");
                        prop_assert_eq!(sender.send(bytes(1, 1)), Err(Closed));
                        return Ok(());
                    }
                }
            }
            prop_assert!(false, "nobody has seen it");
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_the_disk_makes_of_it_is_named() {
    let folder = Folder::new("named");
    // A page of zeros, whose checksum is 0; a record that belongs elsewhere; a file that is shorter.
    let zeros = |segment: &Segment| segment.file.write_all_at(&[0; 133], 133).unwrap();
    let elsewhere = |segment: &Segment| {
        let mut record = [0; 133];
        segment.file.read_exact_at(&mut record, 0).unwrap();
        segment.file.write_all_at(&record, 133).unwrap();
    };
    let shorter = |segment: &Segment| segment.file.set_len(200).unwrap();
    let spoils: [&dyn Fn(&Segment); 3] = [&zeros, &elsewhere, &shorter];
    let said =
        ["does not hold the record that belongs there"; 2].into_iter().chain(["cannot read segment 1"]);
    for (spoil, words) in spoils.into_iter().zip(said) {
        let (mut sender, mut receiver) = queue(folder.config(0));
        for number in 0..3 {
            sender.send(bytes(100, number)).unwrap();
        }
        spoil(&file(&receiver));
        receiver.recv().await.unwrap();
        receiver.recv().await.unwrap();
        let said = receiver.recv().await.unwrap_err().to_string();
        let place = format!("spool in {} at byte 133", folder.0.display());
        assert!(said.contains(words) && said.contains(&place), "{said}");
    }
    let (mut sender, mut receiver) = queue(folder.config(0));
    sender.send(bytes(1, 0)).unwrap();
    sender.send(Thing::Bytes(b"nonsense".to_vec())).unwrap();
    file(&receiver);
    receiver.recv().await.unwrap();
    assert!(matches!(receiver.recv().await, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn full_is_an_error_and_gives_the_space_back() {
    let folder = Folder::new("full");
    for len in [400, 600_000] {
        let budget = Budget::new(1_000_000);
        let config = Config { budget: budget.clone(), ..folder.config(100) };
        let (mut sender, mut receiver) = queue(config);
        let sent = (0..10_000).take_while(|number| sender.send(bytes(len, *number)).is_ok()).count();
        assert!((1 + 1_000_000 / (len + 33)..=1 + 1_000_000 / len).contains(&sent), "{sent} of {len} bytes");
        let gauge = receiver.gauge();
        assert!((400_000..=1_000_000).contains(&gauge.bytes_max()), "{gauge:?}");
        assert_eq!((gauge.bytes(), budget.gauge().bytes()), (0, 0));
        no_file_is_open(&folder);
        let said = receiver.recv().await.unwrap_err().to_string();
        let place = folder.0.display().to_string();
        for word in [&place, "of 1000000 bytes", "--spool", "--spool-max-bytes"] {
            assert!(said.contains(word), "{said}");
        }
        assert!(receiver.recv().await.unwrap().is_none());
    }
    // What is read makes room.
    let (mut sender, mut receiver) =
        queue_of_segments(Config { budget: Budget::new(10_000), ..folder.config(0) }, 500);
    for number in 0..5 {
        sender.send(bytes(1_000, number)).unwrap();
    }
    for number in 0..100 {
        sender.send(bytes(1_000, number + 5)).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), Some(bytes(1_000, number)));
        eventually("few files are open", || files_open(&folder.0) <= 6);
    }
}

#[tokio::test]
async fn a_disk_that_is_full_is_an_error() {
    let file = File::options().write(true).open("/dev/full").unwrap();
    let segment = Segment { file, number: 1, folder: "/some/where".into() };
    for len in [10, 1_000_000] {
        let (mut buffer, pulse) = (Vec::new(), Pulse::default());
        let mut batch = segment.batch(0, &mut buffer, 77, &pulse);
        batch.add(&bytes(len, 1));
        let said = batch.finish().unwrap_err().to_string();
        for word in ["/some/where", "77 bytes", "No space left", "--spool"] {
            assert!(said.contains(word), "{said}");
        }
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named_once_it_is_needed() {
    // The last is no folder, and root cannot write there either.
    for folder in ["/no/such/folder", "/proc/self", "/dev/null"] {
        let (mut sender, mut receiver) =
            queue(Config { folder: folder.into(), memory_bytes: 10, ..Config::default() });
        sender.send(bytes(100, 1)).unwrap();
        assert_eq!(receiver.recv().await.unwrap(), Some(bytes(100, 1)));
        sender.send(bytes(100, 2)).unwrap();
        assert!(timeout(Duration::from_millis(5), receiver.failure()).await.is_err());
        sender.send(bytes(100, 3)).unwrap();
        sender.closed().await;
        assert_eq!(sender.send(bytes(100, 4)), Err(Closed));
        let said = receiver.failure().await.to_string();
        assert!(said.contains(folder) && said.contains("--spool"), "{said}");
    }
}

#[tokio::test]
async fn files_are_for_us_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("alone");
    let segment = Segment::create(&folder.0, 1).unwrap();
    assert_eq!(segment.file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!((folder.files(), files_open(&folder.0)), (0, 1));
}

#[tokio::test]
async fn each_end_sees_the_other_leave() {
    let folder = Folder::new("leave");
    let (mut sender, mut receiver) = queue(folder.config(0));
    // A wait that is given up loses nothing.
    assert!(timeout(Duration::from_millis(5), receiver.recv()).await.is_err());
    assert!(timeout(Duration::from_millis(5), sender.closed()).await.is_err());
    for number in 0..3 {
        sender.send(bytes(10, number)).unwrap();
    }
    assert_eq!(receiver.recv().await.unwrap(), Some(bytes(10, 0)));
    drop(receiver);
    sender.closed().await;
    assert_eq!(sender.send(bytes(1, 1)), Err(Closed));
    no_file_is_open(&folder);

    let (sender, mut receiver) = queue::<Thing>(folder.config(0));
    let waiting = tokio::spawn(async move { receiver.recv().await.unwrap() });
    tokio::task::yield_now().await;
    drop(sender);
    assert_eq!(waiting.await.unwrap(), None);
}

#[tokio::test]
async fn who_receives_all_the_time_lets_others_run() {
    let folder = Folder::new("turns");
    let (mut sender, mut receiver) = queue(folder.config(0));
    for number in 0..5_000 {
        sender.send(bytes(1, number)).unwrap();
    }
    let busy = async { while let Ok(Some(_)) = receiver.recv().await {} };
    let other = async {
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { biased; () = busy => unreachable!("the sender is there"), () = other => {} }
    assert!(receiver.gauge().bytes() > 0, "it took all before the other had its turn");
}

/// Both ends at once, in threads of their own: files are read while they are written, emptied and let go.
#[test]
fn two_threads() {
    let folder = Folder::new("threads");
    for (memory_bytes, segment_bytes) in [(0, 1), (500, 4_000), (5_000, 100_000)] {
        let (mut sender, mut receiver) = queue_of_segments(folder.config(memory_bytes), segment_bytes);
        let count = 30_000;
        let sending = std::thread::spawn(move || {
            for number in 0..count {
                let item =
                    if number % 50 == 0 { Thing::Unwritable(number) } else { bytes(number % 97, number) };
                sender.send(item).unwrap();
                if number % 1_000 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        runtime().block_on(async {
            for number in 0..count {
                let item =
                    if number % 50 == 0 { Thing::Unwritable(number) } else { bytes(number % 97, number) };
                assert_eq!(receiver.recv().await.unwrap(), Some(item));
            }
            assert_eq!(receiver.recv().await.unwrap(), None);
        });
        sending.join().unwrap();
        assert_eq!(receiver.gauge().bytes(), 0);
        no_file_is_open(&folder);
    }
}

/// The steps of the threads, one by one.
#[test]
fn what_is_dropped_while_it_is_read_or_written_does_not_come_out() {
    let folder = Folder::new("dropped");
    let shared = Shared::new(folder.config(0), 1 << 20);
    let (pulse, mut buffer, mut number) = (Pulse::default(), Vec::new(), 0);
    let send = |number| {
        shared.lock().add(bytes(200, number), &shared).unwrap();
    };
    let recv = || match shared.lock().next(&shared) {
        Next::Item(item) => Some(item),
        _ => None,
    };
    for number in 0..3 {
        send(number);
    }
    assert_eq!(recv(), Some(bytes(200, 0)));
    let writing = shared.lock().begin_write(1_000, &shared).unwrap();
    let (open, kinds) = disk::write(&shared, &writing, &mut number, &mut buffer).unwrap();
    assert_eq!(recv(), None, "it is being written");
    shared.lock().end_write(writing, open, &kinds);
    assert_eq!(recv(), None, "it is to be read");

    let reading = shared.lock().begin_read().unwrap();
    let found = disk::read(&reading, &pulse);
    drop(shared.lock().clear(&shared));
    send(3); // to memory
    send(4);
    let writing = shared.lock().begin_write(1_000, &shared).unwrap();
    let (open, kinds) = disk::write(&shared, &writing, &mut number, &mut buffer).unwrap();
    shared.lock().end_write(writing, open, &kinds);
    assert!(shared.lock().end_read(&reading, found).is_none());
    assert_eq!((recv(), recv()), (Some(bytes(200, 3)), None), "only what was sent since is to be read");

    send(5);
    let writing = shared.lock().begin_write(1_000, &shared).unwrap();
    let (open, kinds) = disk::write(&shared, &writing, &mut number, &mut buffer).unwrap();
    drop(shared.lock().clear(&shared));
    shared.lock().end_write(writing, open, &kinds);
    assert_eq!((recv(), shared.gauge.bytes()), (None, 0));

    for number in 5..8 {
        send(number);
    }
    assert_eq!(
        [(); 4].map(|()| recv()),
        [Some(bytes(200, 5)), Some(bytes(200, 6)), Some(bytes(200, 7)), None]
    );
    drop(reading);
    shared.lock().garbage.clear();
    assert_eq!((shared.gauge.bytes(), files_open(&folder.0)), (0, 0));
}

/// A disk that does not write for now; the steps of the sender without its threads.
#[tokio::test]
async fn a_sender_that_waits_for_room_hears_of_it() {
    let folder = Folder::new("room");
    let config = Config { write_behind_bytes: 1_000, ..folder.config(0) };
    let shared = Shared::new(config, 1 << 20);
    let heard = || timeout(Duration::from_millis(5), shared.left.notified());
    for number in 0..10 {
        shared.lock().add(bytes(200, number), &shared).unwrap();
    }
    assert!(!shared.lock().has_room(&shared));
    assert!(heard().await.is_err());
    while !shared.lock().has_room(&shared) {
        assert!(matches!(shared.lock().next(&shared), Next::Item(_)));
    }
    assert!(heard().await.is_ok(), "what the receiver takes before it is written makes room");
}

/// A call that does not return, as the threads would make it.
#[tokio::test]
async fn a_disk_that_stands_still_is_an_error() {
    let folder = Folder::new("still");
    let stall_timeout = Duration::from_millis(200);
    let config = Config { write_behind_bytes: 1_000, stall_timeout, ..folder.config(0) };
    for (count, patient, is_read, words) in [
        (3, true, false, ["a write has not returned for", "--spool"]),
        (3, true, true, ["a read has not returned for", "--spool"]),
        (30, false, false, ["too slow", "--spool"]),
    ] {
        let shared = Shared::new(config.clone(), 1 << 20);
        for number in 0..count {
            shared.lock().add(bytes(200, number), &shared).unwrap();
        }
        match is_read {
            true => shared.read_pulse.beat(),
            false => shared.write_pulse.beat(),
        }
        let (began, mut waited) = (Instant::now(), Duration::ZERO);
        while !shared.lock().closed {
            assert!(waited < Duration::from_secs(10));
            tokio::time::sleep(shared.look_every()).await;
            if !patient {
                shared.write_pulse.beat(); // it writes, slowly
            }
            shared.look_at_disk(patient);
            waited = began.elapsed();
        }
        assert!(waited >= stall_timeout, "{waited:?}");
        let said = shared.lock().failure.take().unwrap().to_string();
        for words in words.into_iter().chain([&*folder.0.display().to_string()]) {
            assert!(said.contains(words), "{said}");
        }
    }
}

#[test]
fn a_disk_that_stands_still_is_seen_sooner_when_much_waits() {
    let folder = Folder::new("sooner");
    let config =
        Config { write_behind_bytes: 1_000, stall_timeout: Duration::from_secs(3), ..folder.config(0) };
    let [few, many] = [3, 30].map(|count| {
        let shared = Shared::new(config.clone(), 1 << 20);
        for number in 0..count {
            shared.lock().add(bytes(200, number), &shared).unwrap();
        }
        shared.write_pulse.beat();
        shared
    });
    let began = Instant::now();
    assert!(many.lock().stall(&many, false).is_none() || began.elapsed() >= config.stall_timeout / 10);
    std::thread::sleep(config.stall_timeout / 10);
    for (shared, patient) in [(&few, true), (&few, false), (&many, true)] {
        let stall = shared.lock().stall(shared, patient);
        assert!(stall.is_none() || began.elapsed() >= config.stall_timeout, "{stall:?}");
    }
    assert!(matches!(many.lock().stall(&many, false), Some(Error::Stalled { .. })));
}

/// The same in threads of their own.
#[test]
fn cleared_while_it_is_read() {
    let folder = Folder::new("cleared");
    let (mut sender, mut receiver) = queue_of_segments(folder.config(100), 1_000);
    let sending = std::thread::spawn(move || {
        for number in 0..20_000 {
            if number % 100 == 0 {
                sender.clear();
            }
            sender.send(Thing::Bytes(number.to_string().into_bytes())).unwrap();
        }
    });
    let (mut last, mut received) = (None, 0);
    runtime().block_on(async {
        while let Some(item) = receiver.recv().await.unwrap() {
            let Thing::Bytes(text) = item else { panic!("{item:?}") };
            let number: usize = String::from_utf8(text).unwrap().parse().unwrap();
            // In order, and what is left out was dropped: the next is the first after a clearing.
            let next = last.map_or(0, |last| last + 1);
            assert!(
                number == next || (number > next && number.is_multiple_of(100)),
                "{number} after {last:?}"
            );
            (last, received) = (Some(number), received + 1);
        }
    });
    sending.join().unwrap();
    assert_eq!(last, Some(19_999));
    assert!(received >= 100);
    assert_eq!(receiver.gauge().bytes(), 0);
    no_file_is_open(&folder);
}
