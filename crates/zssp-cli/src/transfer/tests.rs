//! Both ends over a network in memory.

mod changes;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Cursor},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::spawn_blocking};
use zssp::{
    Connection, Endpoint, PublicKey, SecretKey, WriteError,
    link::memory::{Conditions, Network},
};

use super::{
    message::{self, Answer, Attributes, FileHeader, Mode, Request, SMALL},
    names::{Name, NamePath},
    pipe::{Input, ask, put},
    receiver,
    refusal::{Reason, Refusal},
    run::{Broken, Event, Trouble, say_goodbye},
    sender::Job,
    sink::{Durability, Existing, Folder, Place, Sink, SinkFile},
    source::{Opened, Plan, Source},
};
use crate::{
    connect::patient,
    exit::Exit,
    interrupt::{Interrupt, Stop},
};

const ATTRIBUTES: Attributes = Attributes { mode: Mode::READ_WRITE, modified: None };

/// Two endpoints that stay the same while connections come and go.
struct Road {
    runtime: Runtime,
    alice: Endpoint,
    bob: Endpoint,
}

impl Road {
    /// A peer that is silent for `silence` is gone.
    fn new(silence: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let (alice, bob) = {
            let _inside = runtime.enter();
            let network = Network::new(1, Conditions::default());
            let endpoint = |last| {
                let link = network.attach(([10, 0, 0, last], 1).into()).unwrap();
                let builder = Endpoint::builder(SecretKey::generate().unwrap());
                patient(builder, silence).bind_link(link).unwrap()
            };
            (endpoint(1), endpoint(2))
        };
        Self { runtime, alice, bob }
    }

    fn calm() -> Self {
        Self::new(Duration::from_secs(60))
    }

    fn connect(&self) -> (Connection, Connection) {
        self.runtime.block_on(async {
            let accept = async { self.bob.accept().await.unwrap().accept().await };
            let connect = self.alice.connect(self.bob.local_addr(), self.bob.public_key());
            tokio::try_join!(connect, accept).unwrap()
        })
    }

    fn alices_key(&self) -> PublicKey {
        self.alice.public_key()
    }

    /// Sends the job's files over one connection, which the receiver closes when `enough` of what happens there says so.
    fn run<S: Source, K: Sink>(
        &self,
        job: &mut Job<S>,
        sink: K,
        mut enough: impl FnMut(&Event) -> bool + Send + 'static,
    ) -> Run {
        let (here, there) = self.connect();
        self.runtime.block_on(async {
            let receiving = spawn_blocking(move || {
                let mut events = vec![];
                let runtime = tokio::runtime::Handle::current();
                let (stop, interrupt) = Interrupt::by_hand();
                let receiving = receiver::receive(&there, sink, interrupt, |event| {
                    if enough(&event) {
                        stop.request(Exit::Interrupted);
                    }
                    events.push(event);
                });
                let result = runtime.block_on(receiving);
                runtime.block_on(say_goodbye(&there, result.as_ref().err()));
                (events, result)
            });
            let mut sent_events = vec![];
            let sent = job.send(&here, never(), |event| sent_events.push(event)).await;
            say_goodbye(&here, sent.as_ref().err()).await;
            let (received_events, received) = receiving.await.unwrap();
            Run { sent, sent_events, received, received_events }
        })
    }
}

/// Nobody interrupts.
fn never() -> Interrupt {
    Interrupt::by_hand().1
}

struct Run {
    sent: Result<(), Broken>,
    sent_events: Vec<Event>,
    received: Result<(), Broken>,
    received_events: Vec<Event>,
}

/// Bytes of contents that went through.
fn moved(events: &[Event]) -> u64 {
    events.iter().map(|event| if let Event::Moved { bytes, .. } = event { *bytes } else { 0 }).sum()
}

fn stored(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Stored { .. })).count()
}

/// Files in memory.
struct Library(BTreeMap<NamePath, Vec<u8>>);

impl Source for Library {
    type File = Cursor<Vec<u8>>;

    fn open(&self, path: &NamePath) -> io::Result<Opened<Self::File>> {
        let contents = self.0.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        let size = contents.len() as u64;
        Ok(Opened { file: Cursor::new(contents), size, attributes: ATTRIBUTES })
    }

    fn state(&self, file: &Self::File) -> io::Result<(u64, Attributes)> {
        Ok((file.get_ref().len() as u64, ATTRIBUTES))
    }
}

fn path(names: &[&str]) -> NamePath {
    NamePath::new(names.iter().map(|name| Name::new(name.as_bytes()).unwrap()).collect()).unwrap()
}

fn contents(number: usize, size: usize) -> Vec<u8> {
    let mut contents = vec![0; size];
    blake3::Hasher::new().update(&number.to_be_bytes()).finalize_xof().fill(&mut contents);
    contents
}

/// Files of the given sizes, spread over nested folders.
fn job(sizes: &[usize]) -> Job<Library> {
    let mut folders = vec![NamePath::root(Name::new(b"top").unwrap())];
    folders.push(folders[0].join(Name::new(b"sub").unwrap()).unwrap());
    let files: BTreeMap<_, _> =
        (0..).zip(sizes).map(|(number, size)| place(&folders, number, *size)).collect();
    let plan = Plan {
        directories: folders.into_iter().map(|path| (path, Mode::READ_WRITE)).collect(),
        files: files.iter().map(|(path, contents)| (path.clone(), contents.len() as u64)).collect(),
        bytes: files.values().map(|contents| contents.len() as u64).sum(),
    };
    Job::new(Library(files), plan)
}

fn place(folders: &[NamePath], number: usize, size: usize) -> (NamePath, Vec<u8>) {
    let name = Name::new(format!("n{number}").as_bytes()).unwrap();
    (folders[number % folders.len()].join(name).unwrap(), contents(number, size))
}

fn assert_all_there(inbox: &TempDir, sizes: &[usize]) {
    for (number, size) in sizes.iter().enumerate() {
        let folder = if number % 2 == 0 { "top" } else { "top/sub" };
        let arrived = fs::read(inbox.path().join(folder).join(format!("n{number}"))).unwrap();
        assert!(arrived == contents(number, *size), "number {number} differs");
    }
}

fn everything_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| 1 + if path.is_dir() { everything_below(&path) } else { 0 }).sum()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| {
        if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() }
    });
    bytes.sum()
}

fn folder(inbox: &TempDir) -> Folder {
    Folder::open(inbox.path(), Existing::Keep, Durability::Cached).unwrap()
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![0..3usize, 0..2000usize, Just(SMALL as usize), 32_000..700_000usize];
    prop::collection::vec(size, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However often the connection is cut, each byte is written once, and the files are what they were.
    #[test]
    fn what_is_cut_off_anywhere_is_gone_on_with(sizes in sizes(), cuts in prop::collection::vec(0u64..900_000, 0..4)) {
        let (road, inbox) = (Road::calm(), tempfile::tempdir().unwrap());
        let sink = folder(&inbox).of_sender(&road.alices_key());
        let mut job = job(&sizes);
        for cut in cuts {
            let mut through = 0;
            let run = road.run(&mut job, sink.clone(), move |event| {
                through += moved(std::slice::from_ref(event));
                through >= cut
            });
            // Without a cut in time it is over.
            if run.sent.is_ok() {
                prop_assert!(run.received.is_ok(), "{:?}", run.received);
            }
        }
        let before = bytes_below(inbox.path());
        let run = road.run(&mut job, sink, |_| false);
        prop_assert!(run.sent.is_ok() && run.received.is_ok(), "{:?} {:?}", run.sent, run.received);
        assert_all_there(&inbox, &sizes);
        let total = sizes.iter().map(|size| *size as u64).sum::<u64>();
        prop_assert_eq!(moved(&run.received_events) + before, total, "moved, and there before");
        prop_assert_eq!(everything_below(inbox.path()), 2 + sizes.len(), "no part is left");
    }

    /// Whatever a peer says on however many streams: an end, no panic, and nothing stored that was not announced.
    #[test]
    fn no_peer_hurts_the_receiver(streams in prop::collection::vec(prop::collection::vec(a_wild_message(), 0..6), 1..6), greets: bool) {
        let (road, inbox) = (Road::calm(), tempfile::tempdir().unwrap());
        let sink = folder(&inbox);
        let (here, there) = road.connect();
        road.runtime.block_on(async move {
            let receiving = spawn_blocking(move || {
                let runtime = tokio::runtime::Handle::current();
                runtime.block_on(receiver::receive(&there, sink, never(), |_| {}))
            });
            let mut held = vec![];
            for (number, messages) in streams.into_iter().enumerate() {
                // What was said before may have been enough for the receiver to hang up.
                let Ok((mut send, receive)) = here.open_stream().await else { break };
                if number == 0 && greets {
                    let _ = send.write_chunk(message::prelude().to_vec()).await;
                }
                for message in messages {
                    let _ = match message {
                        Wild::Message(message) => put(&mut send, message).await,
                        Wild::Noise(noise) => send.write_chunk(noise).await,
                    };
                }
                let _ = send.finish();
                held.push(receive);
            }
            say_goodbye(&here, None).await;
            let _ = receiving.await.unwrap();
        });
        for entry in fs::read_dir(inbox.path()).unwrap() {
            let entry = entry.unwrap();
            prop_assert!(entry.metadata().unwrap().len() <= 64 || entry.path().is_dir(), "{:?}", entry);
        }
    }
}

#[derive(Clone, Debug)]
enum Wild {
    Message(Bytes),
    Noise(Bytes),
}

/// Messages that often fit together by chance, and sometimes are plain noise.
fn a_wild_message() -> impl Strategy<Value = Wild> {
    let header = || {
        (0u64..64, 0u8..3).prop_map(|(size, number)| FileHeader {
            size,
            attributes: ATTRIBUTES,
            path: NamePath::root(Name::new(&[b'a' + number]).unwrap()),
        })
    };
    let message = prop_oneof![
        Just(Request::Start { files: 1, bytes: 1 }),
        Just(Request::Finish),
        header().prop_map(|header| Request::Directory { mode: header.attributes.mode, path: header.path }),
        header().prop_map(Request::File),
        header().prop_map(Request::SmallFile),
        any::<[u8; 32]>().prop_map(Request::Digest),
        (0u64..3).prop_map(|offset| Request::Contents { offset }),
    ];
    prop_oneof![
        4 => message.prop_map(|request| Wild::Message(request.encode())),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| Wild::Noise(bytes.into())),
    ]
}

#[test]
fn a_file_that_changed_between_two_attempts_is_sent_anew() {
    let (road, inbox) = (Road::calm(), tempfile::tempdir().unwrap());
    let sink = folder(&inbox).of_sender(&road.alices_key());
    let of = |contents: Vec<u8>| {
        let size = contents.len() as u64;
        let plan = Plan { files: [(path(&["a"]), size)].into(), bytes: size, ..Plan::default() };
        Job::new(Library([(path(&["a"]), contents)].into()), plan)
    };
    let run =
        road.run(&mut of(contents(1, 9 << 20)), sink.clone(), |event| matches!(event, Event::Moved { .. }));
    assert!(run.sent.is_err());
    let begun = bytes_below(inbox.path());
    assert!(begun > 0);

    let run = road.run(&mut of(contents(2, 3 << 20)), sink, |_| false);
    assert!(run.sent.is_ok() && run.received.is_ok(), "{:?} {:?}", run.sent, run.received);
    for events in [&run.sent_events, &run.received_events] {
        assert!(events.iter().any(|event| matches!(event, Event::Anew { had, .. } if *had == begun)));
    }
    assert_eq!(compared(&run.received_events), [begun]);
    assert_eq!(moved(&run.received_events), 3 << 20);
    assert!(fs::read(inbox.path().join("a")).unwrap() == contents(2, 3 << 20));
}

#[test]
fn what_exists_is_refused_unless_it_is_the_same() {
    let (road, inbox) = (Road::calm(), tempfile::tempdir().unwrap());
    let sizes = [10, 20, 100_000, 200_000];
    fs::create_dir_all(inbox.path().join("top/sub")).unwrap();
    for number in [0, 2] {
        fs::write(inbox.path().join(format!("top/n{number}")), contents(number, sizes[number])).unwrap();
    }
    fs::write(inbox.path().join("top/sub/n1"), contents(9, sizes[1])).unwrap();
    fs::write(inbox.path().join("top/sub/n3"), contents(9, sizes[3])).unwrap();
    let run = road.run(&mut job(&sizes), folder(&inbox), |_| false);
    assert!(run.sent.is_ok() && run.received.is_ok(), "{:?} {:?}", run.sent, run.received);
    let refused = |event: &&Event| {
        matches!(event, Event::Failed { why: Trouble::Refused(Refusal { reason: Reason::Exists, .. }), .. })
    };
    for events in [&run.sent_events, &run.received_events] {
        assert_eq!(events.iter().filter(refused).count(), 2, "{events:?}");
        assert_eq!(compared(events), [100_000, 200_000], "small ones come with their contents");
    }
    assert_eq!(run.received_events.iter().filter(|event| matches!(event, Event::Present { .. })).count(), 2);
    for number in [1, 3] {
        let kept = fs::read(inbox.path().join(format!("top/sub/n{number}"))).unwrap();
        assert!(kept == contents(9, sizes[number]));
    }
}

/// How much was read again before anything moved, of each file, from the least on.
fn compared(events: &[Event]) -> Vec<u64> {
    let compared = events.iter().filter_map(|event| match event {
        Event::Comparing { bytes, .. } => Some(*bytes),
        _ => None,
    });
    let mut compared: Vec<_> = compared.collect();
    compared.sort();
    compared
}

/// Says to the receiver what no honest sender says, and hears its last answer.
fn said(road: &Road, sink: Folder, header: FileHeader, then: Vec<Bytes>) -> Answer {
    let (here, there) = road.connect();
    road.runtime.block_on(async move {
        let receiving = spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(receiver::receive(&there, sink, never(), |_| {}))
        });
        let (mut control, _answers) = here.open_stream().await.unwrap();
        control.write_chunk(message::prelude().to_vec()).await.unwrap();
        let (mut send, receive) = here.open_stream().await.unwrap();
        ask(&mut send, &Request::SmallFile(header)).await.unwrap();
        for bytes in then {
            send.write_chunk(bytes).await.unwrap();
        }
        send.finish().unwrap();
        let frame = Input::new(receive).frame().await.unwrap().unwrap();
        say_goodbye(&here, None).await;
        let _ = receiving.await.unwrap();
        Answer::parse(frame).unwrap()
    })
}

#[test]
fn contents_that_do_not_match_their_digest_get_no_name() {
    let (road, inbox) = (Road::calm(), tempfile::tempdir().unwrap());
    let header = FileHeader { size: 4, attributes: ATTRIBUTES, path: path(&["a"]) };
    let digest = Bytes::copy_from_slice(blake3::hash(b"good").as_bytes());
    let answer = said(&road, folder(&inbox), header.clone(), vec!["evil".into(), digest.clone()]);
    assert_eq!(answer, Answer::Refused(Refusal::plain(Reason::Corrupt)));
    assert_eq!(everything_below(inbox.path()), 0);
    assert_eq!(said(&road, folder(&inbox), header, vec!["good".into(), digest]), Answer::Done);
    assert_eq!(fs::read(inbox.path().join("a")).unwrap(), b"good");
}

#[test]
fn a_sender_that_takes_its_time_to_end_its_stream_is_not_broken_off() {
    let (road, inbox) = (Road::calm(), tempfile::tempdir().unwrap());
    let sink = folder(&inbox);
    let (here, there) = road.connect();
    road.runtime.block_on(async {
        let receiving = spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(receiver::receive(&there, sink, never(), |_| {}))
        });
        let (mut control, receive) = here.open_stream().await.unwrap();
        let mut answers = Input::new(receive);
        control.write_chunk(message::prelude().to_vec()).await.unwrap();
        answers.exact(&mut [0; message::PRELUDE]).await.unwrap();
        ask(&mut control, &Request::Finish).await.unwrap();
        // The receiver has heard all that it wants to hear, and lets go of the stream.
        assert_eq!(control.stopped().await, Err(WriteError::Stopped(0)));
        control.finish().unwrap();
        let frame = answers.frame().await.unwrap().unwrap();
        assert_eq!(Answer::parse(frame).unwrap(), Answer::Done);
        say_goodbye(&here, None).await;
        receiving.await.unwrap().unwrap();
    });
}

#[test]
fn a_peer_of_another_version_is_told_ours_and_both_say_so() {
    let road = Road::calm();
    let inbox = tempfile::tempdir().unwrap();
    let sink = folder(&inbox);
    let (here, there) = road.connect();
    let (heard, received) = road.runtime.block_on(async {
        let receiving = spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(receiver::receive(&there, sink, never(), |_| {}))
        });
        let (mut send, receive) = here.open_stream().await.unwrap();
        send.write_chunk(&b"ZSSPFILE\x00\x63"[..]).await.unwrap();
        let mut heard = [0; message::PRELUDE];
        Input::new(receive).exact(&mut heard).await.unwrap();
        (heard, receiving.await.unwrap())
    });
    assert_eq!(message::parse_prelude(heard), Ok(message::VERSION));
    assert!(matches!(&received, Err(Broken::Version(99))), "{received:?}");
    assert!(received.unwrap_err().to_string().contains("use the same zssp on both sides"));

    let (here, there) = road.connect();
    let sent = road.runtime.block_on(async {
        let other = tokio::spawn(async move {
            let (mut send, receive) = there.accept_stream().await.unwrap();
            send.write_chunk(&b"ZSSPFILE\x00\x01"[..]).await.unwrap();
            drop(receive);
            there.closed().await;
        });
        let sent = job(&[5]).send(&here, never(), |_| {}).await;
        say_goodbye(&here, None).await;
        other.await.unwrap();
        sent
    });
    assert!(matches!(sent, Err(Broken::Version(1))), "{sent:?}");
}

/// A disk that takes its time.
#[derive(Clone)]
struct Slow {
    pause: Duration,
    /// Interrupts the transfer while a file gets its name.
    stop: Option<Arc<Stop>>,
    named: Arc<AtomicUsize>,
}

impl Slow {
    fn new(pause: Duration, stop: Option<Stop>) -> Self {
        Self { pause, stop: stop.map(Arc::new), named: Arc::default() }
    }
}

impl Source for Slow {
    type File = io::Empty;

    fn open(&self, _path: &NamePath) -> io::Result<Opened<io::Empty>> {
        thread::sleep(self.pause);
        Ok(Opened { file: io::empty(), size: 0, attributes: ATTRIBUTES })
    }

    fn state(&self, _file: &io::Empty) -> io::Result<(u64, Attributes)> {
        Ok((0, ATTRIBUTES))
    }
}

impl Sink for Slow {
    type File = Self;

    fn make_directory(&self, _path: &NamePath, _mode: Mode) -> Result<(), Refusal> {
        Ok(())
    }

    fn place(&self, _path: &NamePath, _size: u64) -> Result<Place, Refusal> {
        Ok(Place::Free)
    }

    fn part(&self, _path: &NamePath, _attributes: &Attributes) -> Result<Self, Refusal> {
        Ok(self.clone())
    }
}

impl SinkFile for Slow {
    fn kept(&self) -> u64 {
        0
    }

    fn read_kept(&mut self, _read: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    fn write(&mut self, _contents: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    fn commit(self) -> Result<(), Refusal> {
        if let Some(stop) = &self.stop {
            stop.request(Exit::Interrupted);
        }
        thread::sleep(self.pause);
        self.named.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn discard(self) {}
}

#[test]
fn a_slow_disk_is_not_a_dead_peer() {
    let silence = Duration::from_secs(1);
    let (road, slow) = (Road::new(silence), Slow::new(silence * 5 / 2, None));
    let run = road.run(&mut Job::new(slow.clone(), one_empty_file()), slow, |_| false);
    assert!(run.sent.is_ok() && run.received.is_ok(), "{:?} {:?}", run.sent, run.received);
    assert_eq!(stored(&run.sent_events), 1);
}

#[test]
fn an_interrupted_receiver_waits_for_the_file_that_is_getting_its_name() {
    let (stop, interrupt) = Interrupt::by_hand();
    let (road, slow) = (Road::calm(), Slow::new(Duration::from_millis(300), Some(stop)));
    let mut job = Job::new(slow.clone(), one_empty_file());
    let (here, there) = road.connect();
    let (received, named) = road.runtime.block_on(async {
        let receiving = spawn_blocking(move || {
            let runtime = tokio::runtime::Handle::current();
            let received = runtime.block_on(receiver::receive(&there, slow.clone(), interrupt, |_| {}));
            (received, slow.named.load(Ordering::SeqCst))
        });
        let (_, ended) = tokio::join!(job.send(&here, never(), |_| {}), receiving);
        ended.unwrap()
    });
    assert!(matches!(received, Err(Broken::Interrupted(_))), "{received:?}");
    assert_eq!(named, 1, "and nothing is written afterwards");
}

fn one_empty_file() -> Plan {
    Plan { files: [(path(&["x"]), 0)].into(), ..Plan::default() }
}
