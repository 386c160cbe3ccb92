//! The file a store lives in: private, one process's, and never taken for something else.
//!
//! A binary of its own: it starts processes, and until the program of one runs, it can keep locked whatever file any thread
//! has open; and it counts on few stores having been made before.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test it is the assertion")]

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;
use zssp_harness::store_suite::{identical, pair};
use zssp_proto::{PeerName, RatchetPair, RatchetStore, Swap};
use zssp_store::{OpenError, Redb};

struct Place {
    _folder: TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Place { path: folder.path().join("ratchets.redb"), _folder: folder }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn files(path: &Path) -> usize {
    fs::read_dir(path.parent().unwrap()).unwrap().count()
}

#[test]
fn the_file_is_private_and_the_only_one() {
    let place = place();
    let store = Redb::open(&place.path).unwrap();
    assert_eq!(mode(&place.path), 0o600);
    assert_eq!(files(&place.path), 1);
    let (peer, new) = (PeerName::new(b"peer"), pair(1, None));
    assert_eq!(store.compare_and_swap(&peer, &RatchetPair::never_met(), &new).unwrap(), Swap::Stored);
    assert_eq!(mode(&place.path), 0o600);
    assert_eq!(files(&place.path), 1);
}

/// A process that was killed while it made its first store leaves an unfinished one under its number. In a container,
/// the next process has the same.
#[test]
fn an_unfinished_store_of_a_process_of_the_same_number_is_in_nobodys_way() {
    let place = place();
    let left = |number: usize| {
        let mut name = place.path.clone().into_os_string();
        name.push(format!(".{}-{number}.new", std::process::id()));
        PathBuf::from(name)
    };
    // More than this test binary makes stores.
    (0..1000).for_each(|number| fs::write(left(number), b"not yours").unwrap());
    drop(Redb::open(&place.path).unwrap());
    assert_eq!(files(&place.path), 1001);
    assert!((0..1000).all(|number| fs::read(left(number)).unwrap() == b"not yours"));
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let place = place();
    drop(Redb::open(&place.path).unwrap());
    for exposed in [0o640, 0o604, 0o620, 0o601, 0o666] {
        set_mode(&place.path, exposed);
        let error = Redb::open(&place.path).unwrap_err();
        assert!(matches!(error, OpenError::Exposed { mode, .. } if mode == exposed), "{error}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", place.path.display())), "{error}");
    }
    set_mode(&place.path, 0o600);
    Redb::open(&place.path).unwrap();
}

#[test]
fn a_tool_does_not_make_a_store() {
    let place = place();
    assert!(matches!(Redb::open_existing(&place.path), Err(OpenError::Io { .. })));
    assert_eq!(files(&place.path), 0);
    drop(Redb::open(&place.path).unwrap());
    Redb::open_existing(&place.path).unwrap();
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    let place = place();
    let text = b"Dear diary, ".repeat(10_000);
    fs::write(&place.path, &text).unwrap();
    set_mode(&place.path, 0o600);
    assert!(matches!(Redb::open(&place.path), Err(OpenError::NotAStore { .. })));
    assert_eq!(fs::read(&place.path).unwrap(), text);
    assert!(Redb::open(place.path.parent().unwrap()).is_err());

    // A database of somebody else.
    fs::remove_file(&place.path).unwrap();
    let foreign = redb::Database::create(&place.path).unwrap();
    let transaction = foreign.begin_write().unwrap();
    drop(transaction.open_table(redb::TableDefinition::<u64, u64>::new("numbers")).unwrap());
    transaction.commit().unwrap();
    drop(foreign);
    set_mode(&place.path, 0o600);
    assert!(matches!(Redb::open(&place.path), Err(OpenError::NotAStore { .. })));
}

#[test]
fn a_store_of_a_version_to_come_is_refused() {
    let place = place();
    drop(Redb::open(&place.path).unwrap());
    let database = redb::Database::open(&place.path).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    transaction.open_table(meta).unwrap().insert("format", &[0, 0, 0, 2][..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(matches!(Redb::open(&place.path), Err(OpenError::Format { version: 2, .. })));
}

#[test]
fn a_damaged_file_is_an_error_and_not_a_panic() {
    let place = place();
    let store = Redb::open(&place.path).unwrap();
    for peer in 0..100u8 {
        let new = pair(peer.into(), None);
        store.compare_and_swap(&PeerName::new(&[peer]), &RatchetPair::never_met(), &new).unwrap();
    }
    drop(store);
    let whole = fs::read(&place.path).unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(499) {
        let mut file = fs::OpenOptions::new().write(true).open(&place.path).unwrap();
        file.set_len(0).unwrap();
        file.write_all(&whole).unwrap();
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[whole[at] ^ 0x10]).unwrap();
        drop(file);
        // Where the byte was of no account, all is there.
        match Redb::open(&place.path) {
            Err(_) => refused += 1,
            Ok(store) => assert_eq!(store.peers().unwrap().len(), 100, "byte {at}"),
        }
    }
    assert!(refused > 10, "{refused}");
    for len in [1, 100, 4096, whole.len() / 2] {
        fs::write(&place.path, &whole[..len]).unwrap();
        assert!(Redb::open(&place.path).is_err(), "{len} bytes");
    }
}

#[test]
fn many_may_make_the_same_store_at_once() {
    for _ in 0..20 {
        let place = place();
        let opened = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| Redb::open(&place.path))).collect();
            let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            results.iter().for_each(|result| {
                assert!(matches!(result, Ok(_) | Err(OpenError::AlreadyOpen { .. })), "{result:?}");
            });
            results.iter().filter(|result| result.is_ok()).count()
        });
        assert_eq!(opened, 1);
        assert_eq!(files(&place.path), 1);
    }
}

/// Set for a child: the store that it opens.
const CHILD: &str = "ZSSP_STORE_TEST_CHILD";

/// What the child processes of the tests below do: they write until they are killed.
#[test]
#[ignore = "not a test of its own"]
fn child() {
    let path = env::var_os(CHILD).expect("only the tests below run this");
    let store = Redb::open(path).unwrap();
    let peer = PeerName::new(b"peer");
    let mut old = store.load(&peer).unwrap();
    loop {
        let new = pair(old.first.chain_length() + 1, Some(old.first.chain_length()));
        assert_eq!(store.compare_and_swap(&peer, &old, &new).unwrap(), Swap::Stored);
        println!("stored {}", new.first.chain_length());
        old = new;
    }
}

/// Runs [`child`] until it has stored `writes` times, calls `meanwhile` and kills it; what it said it had stored last.
fn run_child(path: &Path, writes: usize, meanwhile: impl FnOnce()) -> u64 {
    let program = env::current_exe().unwrap();
    let mut child = Command::new(program)
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let stored = |line: &str| line.strip_prefix("stored ").and_then(|n| n.trim_end().parse().ok());
    let (mut last, mut seen, mut line) = (0, 0, String::new());
    while seen < writes {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child ended by itself");
        if let Some(n) = stored(&line) {
            last = n;
            seen += 1;
        }
    }
    meanwhile();
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    // A last line that was cut off does not count.
    let whole = rest.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(stored).fold(last, u64::max)
}

#[test]
fn a_second_process_is_told_so() {
    let place = place();
    run_child(&place.path, 1, || {
        let error = Redb::open(&place.path).unwrap_err();
        assert!(matches!(error, OpenError::AlreadyOpen { .. }), "{error}");
        assert!(error.to_string().contains("another process"), "{error}");
    });
    let store = Redb::open(&place.path).unwrap();
    assert!(
        matches!(Redb::open(&place.path), Err(OpenError::AlreadyOpen { .. })),
        "nor the same process twice"
    );
    drop(store);
    Redb::open(&place.path).unwrap();
}

//= ZSSP-RAT-02  what a killed process had stored is there
//= ZSSP-RAT-03  and whole
#[test]
fn a_killed_process_leaves_the_pair_it_stored_or_the_next() {
    let place = place();
    for writes in [1, 2, 3, 5, 8, 13, 21] {
        let last = run_child(&place.path, writes, || ());
        let found = Redb::open(&place.path).unwrap().load(&PeerName::new(b"peer")).unwrap();
        let n = found.first.chain_length();
        assert!(n == last || n == last + 1, "{n} found, {last} stored");
        assert!(identical(&found, &pair(n, Some(n - 1))));
    }
}
