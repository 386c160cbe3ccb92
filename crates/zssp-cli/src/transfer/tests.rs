//! Both state machines against each other, over a channel that delivers in any order, and each against a peer
//! that does not play by the rules.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    io::{self, Cursor},
    rc::Rc,
};

use bytes::Bytes;
use proptest::prelude::*;

use super::{
    message::{Answer, Attributes, FileId, Mode, Request, VERSION},
    names::{Name, NamePath},
    receiver::{self, Receiver},
    refusal::{Reason, Refusal},
    sender::{self, MIN_MESSAGE, Outcome, Sender, Step},
    sink::{Sink, SinkFile},
    source::{Opened, Plan, Source},
};

type Files = BTreeMap<NamePath, Vec<u8>>;

const ATTRIBUTES: Attributes = Attributes { mode: Mode::READ_WRITE, modified: None };

/// A folder in memory that counts what is under way and fails when told to.
#[derive(Clone, Default)]
struct Shelf(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    directories: BTreeSet<NamePath>,
    files: Files,
    unfinished: usize,
    /// Bytes that still fit.
    room: Option<usize>,
    forbidden: BTreeSet<NamePath>,
}

impl Sink for Shelf {
    type File = ShelfFile;

    fn make_directory(&mut self, path: &NamePath, _mode: Mode) -> Result<(), Refusal> {
        let mut inner = self.0.borrow_mut();
        if inner.forbidden.contains(path) {
            return Err(Refusal::plain(Reason::Permission));
        }
        inner.directories.insert(path.clone());
        Ok(())
    }

    fn create(&mut self, path: &NamePath, _attributes: &Attributes) -> Result<ShelfFile, Refusal> {
        let mut inner = self.0.borrow_mut();
        if inner.forbidden.contains(path) || inner.files.contains_key(path) {
            return Err(Refusal::plain(Reason::Exists));
        }
        let (parents, _) = path.split();
        if NamePath::new(parents.to_vec()).is_ok_and(|parent| !inner.directories.contains(&parent)) {
            return Err(Refusal::plain(Reason::Storage));
        }
        inner.unfinished += 1;
        Ok(ShelfFile { shelf: self.clone(), path: path.clone(), contents: vec![] })
    }
}

struct ShelfFile {
    shelf: Shelf,
    path: NamePath,
    contents: Vec<u8>,
}

impl SinkFile for ShelfFile {
    fn write(&mut self, contents: &[u8]) -> Result<(), Refusal> {
        if let Some(room) = &mut self.shelf.0.borrow_mut().room {
            *room = room.checked_sub(contents.len()).ok_or(Refusal::plain(Reason::NoSpace))?;
        }
        self.contents.extend_from_slice(contents);
        Ok(())
    }

    fn commit(self) -> Result<(), Refusal> {
        self.shelf.0.borrow_mut().files.insert(self.path.clone(), self.contents.clone());
        Ok(())
    }
}

impl Drop for ShelfFile {
    fn drop(&mut self) {
        self.shelf.0.borrow_mut().unfinished -= 1;
    }
}

/// Files in memory; those in `broken` end early.
struct Library {
    files: Files,
    broken: BTreeSet<NamePath>,
}

impl Source for Library {
    type File = Cursor<Vec<u8>>;

    fn open(&mut self, path: &NamePath) -> io::Result<Opened<Self::File>> {
        let contents = self.files.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        let size = contents.len() as u64;
        let kept = if self.broken.contains(path) { contents.len() / 2 } else { contents.len() };
        Ok(Opened { file: Cursor::new(contents[..kept].to_vec()), size, attributes: ATTRIBUTES })
    }
}

struct Report {
    outcome: Outcome,
    stored: BTreeSet<NamePath>,
    failed: BTreeSet<NamePath>,
    not_reached: usize,
}

/// Runs a transfer to its end; `choices` decides which of the messages under way arrives next.
fn run(
    directories: &[NamePath],
    library: Library,
    shelf: &Shelf,
    mut choices: impl FnMut(usize) -> usize,
) -> Report {
    let plan = Plan {
        directories: directories.iter().map(|path| (path.clone(), Mode::READ_WRITE)).collect(),
        files: library.files.iter().map(|(path, contents)| (path.clone(), contents.len() as u64)).collect(),
        bytes: library.files.values().map(|contents| contents.len() as u64).sum(),
    };
    let mut sender = Sender::new(library, plan, MIN_MESSAGE);
    let mut receiver = Receiver::new(shelf.clone());
    let (mut out, mut back) = (vec![], vec![]);
    let mut report = Report {
        outcome: Outcome::Complete,
        stored: BTreeSet::new(),
        failed: BTreeSet::new(),
        not_reached: 0,
    };
    loop {
        let mut idle = false;
        if out.len() < 64 {
            match sender.poll() {
                Step::Request(token, bytes) => out.push((Some(token), bytes)),
                Step::Stream(bytes) => out.push((None, bytes)),
                Step::Wait => idle = true,
                Step::Finished(outcome) => {
                    report.outcome = outcome;
                    break;
                }
            }
        }
        assert!(!idle || !out.is_empty() || !back.is_empty(), "nobody will ever say anything again");
        if !out.is_empty() && (idle || choices(2) == 0) {
            let (token, bytes) = out.swap_remove(choices(out.len()));
            receiver.handle(bytes, token).unwrap();
            while let Some((token, answer)) = receiver.next_answer() {
                back.push((token, answer.encode()));
            }
            while let Some(notice) = receiver.next_notice() {
                back.push((None, notice.encode()));
            }
        }
        if !back.is_empty() && choices(2) == 0 {
            match back.swap_remove(choices(back.len())) {
                (Some(token), bytes) => sender.handle_answer(token, bytes).unwrap(),
                (None, bytes) => sender.handle_notice(bytes).unwrap(),
            }
        }
    }
    while let Some(event) = sender.next_event() {
        match event {
            sender::Event::Streamed { .. } => {}
            sender::Event::Stored { path, .. } => assert!(report.stored.insert(path)),
            sender::Event::Failed { path, .. } => assert!(report.failed.insert(path)),
            sender::Event::NotReached { count } => report.not_reached += count,
        }
    }
    let mut told = BTreeSet::new();
    while let Some(event) = receiver.next_event() {
        if let receiver::Event::Stored { path, .. } = event {
            told.insert(path);
        }
    }
    assert_eq!(told, report.stored, "both sides say the same");
    assert_eq!(shelf.0.borrow().unfinished, 0, "nothing half done is left");
    report
}

fn name(number: usize) -> Name {
    Name::new(format!("n{number}").as_bytes()).unwrap()
}

fn contents(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|index| (index * 31 + number * 7 + index / 251) as u8).collect()
}

/// A little tree: some folders inside each other, files of the given sizes spread over them.
fn tree(depth: usize, sizes: &[usize]) -> (Vec<NamePath>, Files) {
    let mut directories = vec![NamePath::root(name(0))];
    for level in 1..depth {
        directories.push(directories[level - 1].join(name(0)).unwrap());
    }
    let files = sizes.iter().enumerate().map(|(number, size)| {
        let parent = &directories[number % directories.len()];
        (parent.join(name(number + 1)).unwrap(), contents(number, *size))
    });
    (directories.clone(), files.collect())
}

fn any_order(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % bound
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![0..3usize, 0..2000usize, Just(MIN_MESSAGE), 20_000..400_000usize];
    prop::collection::vec(size, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everything_arrives_in_whatever_order_messages_do(seed: u64, depth in 1usize..6, sizes in sizes()) {
        let (directories, files) = tree(depth, &sizes);
        let shelf = Shelf::default();
        let library = Library { files: files.clone(), broken: BTreeSet::new() };
        let report = run(&directories, library, &shelf, any_order(seed));
        prop_assert_eq!(report.outcome, Outcome::Complete);
        prop_assert!(report.failed.is_empty());
        prop_assert_eq!(report.stored.len(), files.len());
        prop_assert_eq!(&shelf.0.borrow().files, &files);
        prop_assert_eq!(shelf.0.borrow().directories.len(), directories.len());
    }

    #[test]
    fn what_cannot_be_stored_or_read_fails_alone(
        seed: u64, depth in 1usize..4, sizes in sizes(), refused in any::<u32>(), broken in any::<u32>(), folder in 0usize..8,
    ) {
        let (directories, files) = tree(depth, &sizes);
        let chosen = |mask: u32| files.keys().enumerate().filter(move |(n, _)| mask >> (n % 32) & 1 == 1).map(|(_, p)| p.clone());
        let shelf = Shelf::default();
        shelf.0.borrow_mut().forbidden.extend(chosen(refused));
        // A refused folder takes everything below it along.
        shelf.0.borrow_mut().forbidden.extend(directories.get(folder).cloned());
        let broken: BTreeSet<_> = chosen(broken).filter(|path| files[path].len() > 1).collect();
        let report = run(&directories, Library { files: files.clone(), broken: broken.clone() }, &shelf, any_order(seed));
        prop_assert_eq!(report.outcome, Outcome::Complete);
        let forbidden = shelf.0.borrow().forbidden.clone();
        for (path, contents) in &files {
            let good = !forbidden.contains(path) && !broken.contains(path) && path.depth() <= folder + 1;
            prop_assert_eq!(report.stored.contains(path), good, "{}", path);
            prop_assert_eq!(report.failed.contains(path), !good, "{}", path);
            prop_assert_eq!(shelf.0.borrow().files.get(path).cloned(), good.then_some(contents.clone()));
        }
    }

    #[test]
    fn a_full_disk_ends_the_transfer_and_nothing_is_called_stored_that_is_not(seed: u64, sizes in sizes(), room in 0usize..600_000) {
        let (directories, files) = tree(2, &sizes);
        let shelf = Shelf::default();
        shelf.0.borrow_mut().room = Some(room);
        let report = run(&directories, Library { files: files.clone(), broken: BTreeSet::new() }, &shelf, any_order(seed));
        prop_assert_eq!(report.outcome, Outcome::Complete);
        prop_assert_eq!(report.stored.len() + report.failed.len() + report.not_reached, files.len());
        prop_assert_eq!(shelf.0.borrow().files.keys().cloned().collect::<BTreeSet<_>>(), report.stored);
        let total: usize = files.values().map(Vec::len).sum();
        prop_assert_eq!(report.failed.is_empty(), total <= room);
    }

    #[test]
    fn no_sequence_of_messages_hurts_the_receiver(script in prop::collection::vec(a_wild_request(), 0..60), started: bool) {
        let shelf = Shelf::default();
        let mut receiver = Receiver::new(shelf.clone());
        let mut unanswered = 0;
        if started {
            receiver.handle(Request::Start { version: VERSION, files: 1, bytes: 1 }.encode(), ()).unwrap();
        }
        for bytes in script {
            if receiver.handle(bytes, ()).is_err() {
                break;
            }
            unanswered += 1;
            while receiver.next_answer().is_some() {
                unanswered -= 1;
            }
        }
        prop_assert!(unanswered < 100);
        for contents in shelf.0.borrow().files.values() {
            prop_assert!(contents.len() <= 64, "only what was announced is stored");
        }
        drop(receiver);
        prop_assert_eq!(shelf.0.borrow().unfinished, 0);
    }
}

/// Requests that often fit together by chance, and sometimes are plain noise.
fn a_wild_request() -> impl Strategy<Value = Bytes> {
    let id = || (0u64..3).prop_map(FileId);
    let digest =
        || prop_oneof![Just(blake3::hash(b"").into()), Just(blake3::hash(&[7; 8]).into()), Just([0; 32])];
    let path = |number| NamePath::root(name(number));
    prop_oneof![
        4 => (id(), 0u64..64, 0usize..9).prop_map(move |(id, size, n)| Request::File { id, size, attributes: ATTRIBUTES, path: path(n) }.encode()),
        8 => (id(), prop_oneof![0u64..64, Just(u64::MAX)], 0usize..20)
            .prop_map(|(id, offset, len)| Request::Chunk { id, offset, contents: vec![7; len].into() }.encode()),
        4 => (id(), digest()).prop_map(|(id, digest)| Request::End { id, digest }.encode()),
        1 => id().prop_map(|id| Request::Abandon { id }.encode()),
        1 => Just(Request::Finish.encode()),
        1 => Just(Request::Alive.encode()),
        1 => Just(Request::Start { version: VERSION, files: 0, bytes: 0 }.encode()),
        1 => prop::collection::vec(any::<u8>(), 0..30).prop_map(Bytes::from),
    ]
}

/// A receiver that has been started, and a file of `size` bytes announced to it as number 1.
fn announced(size: u64) -> (Shelf, Receiver<Shelf, ()>) {
    let shelf = Shelf::default();
    let mut receiver = Receiver::new(shelf.clone());
    receiver.handle(Request::Start { version: VERSION, files: 1, bytes: size }.encode(), ()).unwrap();
    let path = NamePath::root(name(1));
    receiver
        .handle(Request::File { id: FileId(1), size, attributes: ATTRIBUTES, path }.encode(), ())
        .unwrap();
    assert_eq!(receiver.next_answer().unwrap().1, Answer::Done);
    assert_eq!(receiver.next_answer().unwrap().1, Answer::Done);
    (shelf, receiver)
}

fn chunk(offset: u64, contents: &'static [u8]) -> Bytes {
    Request::Chunk { id: FileId(1), offset, contents: contents.into() }.encode()
}

#[test]
fn contents_that_do_not_match_their_digest_get_no_name() {
    let (shelf, mut receiver) = announced(4);
    receiver.handle(chunk(0, b"evil"), ()).unwrap();
    receiver
        .handle(Request::End { id: FileId(1), digest: blake3::hash(b"good").into() }.encode(), ())
        .unwrap();
    assert_eq!(receiver.next_answer().unwrap().1, Answer::Refused(Refusal::plain(Reason::Corrupt)));
    assert!(shelf.0.borrow().files.is_empty());
}

#[test]
fn a_chunk_outside_its_file_or_over_another_is_a_violation() {
    for (first, second) in [
        (chunk(0, b"12345"), None),
        (chunk(u64::MAX, b"1"), None),
        (chunk(0, b""), None),
        (chunk(0, b"12"), Some(chunk(1, b"2"))),
        (chunk(2, b"3"), Some(chunk(2, b"3"))),
        (chunk(1, b"2"), Some(chunk(0, b"12"))),
    ] {
        let (_, mut receiver) = announced(4);
        let result = receiver
            .handle(first, ())
            .and_then(|()| second.map_or(Ok(()), |second| receiver.handle(second, ())));
        assert_eq!(result, Err(receiver::Violation::Chunk));
    }
}

#[test]
fn early_chunks_are_held_in_bounded_memory() {
    let (_, mut receiver) = announced(1 << 40);
    let contents = Bytes::from(vec![0; 60_000]);
    let held = (1u64..).map(|index| {
        let request = Request::Chunk { id: FileId(1), offset: index * 60_000, contents: contents.clone() };
        receiver.handle(request.encode(), ())
    });
    let accepted = held.take_while(Result::is_ok).count();
    assert!((1000..1200).contains(&accepted), "{accepted} chunks of 60,000 bytes");
}

#[test]
fn a_sender_of_another_version_is_told_so() {
    let mut receiver = Receiver::new(Shelf::default());
    receiver.handle(Bytes::from_static(b"\x01\xff\xff"), ()).unwrap();
    let (_, answer) = receiver.next_answer().unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal { reason: Reason::Version, .. })), "{answer:?}");
}

#[test]
fn a_climbing_name_is_refused_and_the_transfer_goes_on() {
    let (shelf, mut receiver) = announced(4);
    let climbing =
        Bytes::from_static(b"\x03\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x04\x01\xa4\x00\0\x02\0\x02..\0\x01x");
    receiver.handle(climbing, ()).unwrap();
    let (_, answer) = receiver.next_answer().unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal { reason: Reason::BadName, .. })), "{answer:?}");
    receiver.handle(chunk(0, b"good"), ()).unwrap();
    receiver
        .handle(Request::End { id: FileId(1), digest: blake3::hash(b"good").into() }.encode(), ())
        .unwrap();
    assert_eq!(shelf.0.borrow().files.len(), 1);
}
