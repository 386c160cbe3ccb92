//! Files that do not stay as they are while they are sent.

use std::{
    fs,
    io::{self, Cursor},
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{ATTRIBUTES, Road, folder, path, stored};
use crate::transfer::{
    message::{Attributes, Modified},
    names::NamePath,
    run::Event,
    sender::Job,
    source::{Disk, Opened, Plan, Source},
};

fn changed(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Changed { .. })).count()
}

/// A file that somebody writes to all the time.
struct Restless(AtomicUsize);

impl Source for Restless {
    type File = Cursor<Vec<u8>>;

    fn open(&self, _: &NamePath) -> io::Result<Opened<Self::File>> {
        let file = Cursor::new(vec![7; 100_000]);
        let (size, attributes) = self.state(&file)?;
        Ok(Opened { file, size, attributes })
    }

    fn state(&self, file: &Self::File) -> io::Result<(u64, Attributes)> {
        let seconds = self.0.fetch_add(1, Ordering::Relaxed) as i64;
        let modified = Some(Modified { seconds, nanos: 0 });
        Ok((file.get_ref().len() as u64, Attributes { modified, ..ATTRIBUTES }))
    }
}

/// A file in whose place somebody puts another as soon as it is open.
struct Replaced {
    disk: Disk,
    place: PathBuf,
}

impl Source for Replaced {
    type File = fs::File;

    fn open(&self, path: &NamePath) -> io::Result<Opened<fs::File>> {
        let opened = self.disk.open(path)?;
        let other = self.place.with_extension("new");
        fs::write(&other, "another")?;
        fs::rename(other, &self.place)?;
        Ok(opened)
    }

    fn state(&self, file: &fs::File) -> io::Result<(u64, Attributes)> {
        self.disk.state(file)
    }
}

#[test]
fn a_file_that_is_written_to_while_it_is_sent_arrives_and_is_named() {
    let (road, inbox) = (Road::calm(), tempfile::tempdir().unwrap());
    let files = [(path(&["log"]), 100_000)].into();
    let mut job = Job::new(Restless(AtomicUsize::new(0)), Plan { files, bytes: 100_000, ..Plan::default() });
    let run = road.run(&mut job, folder(&inbox), |_| false);
    assert!(run.sent.is_ok() && run.received.is_ok(), "{:?} {:?}", run.sent, run.received);
    assert_eq!((changed(&run.sent_events), stored(&run.sent_events)), (1, 1), "{:?}", run.sent_events);
    let calm = road.run(&mut super::job(&[100_000, 3]), folder(&inbox), |_| false);
    assert_eq!(changed(&calm.sent_events), 0, "{:?}", calm.sent_events);
}

#[test]
#[cfg(unix)]
fn a_file_that_is_replaced_while_it_is_sent_arrives_as_it_was() {
    let (road, inbox, outbox) = (Road::calm(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let place = outbox.path().join("log");
    fs::write(&place, [7; 100_000]).unwrap();
    let (disk, plan) = Disk::scan(std::slice::from_ref(&place), &mut vec![]).unwrap();
    let run = road.run(&mut Job::new(Replaced { disk, place }, plan), folder(&inbox), |_| false);
    assert!(run.sent.is_ok() && run.received.is_ok(), "{:?} {:?}", run.sent, run.received);
    assert_eq!((changed(&run.sent_events), stored(&run.sent_events)), (0, 1), "{:?}", run.sent_events);
    assert_eq!(fs::read(inbox.path().join("log")).unwrap(), [7; 100_000]);
}
