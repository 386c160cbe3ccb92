//! A disk in memory that fails when told to and, when the power goes, forgets what was not synced.

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// What a disk writes at once, whatever happens.
const SECTOR: usize = 512;

/// The operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// None does.
    Never,
    /// This one, counted from 0, and everything after it: the process was killed or the power is off.
    From(usize),
    /// This one alone: the disk was full for a moment.
    Once(usize),
}

/// What is left of the writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survivors {
    /// All: the process was killed, the system runs on.
    All,
    /// None: the power went.
    None,
    /// Some sectors, chosen by this seed: the power went while the disk was writing.
    Some(u64),
}

/// A disk; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    seen: Vec<u8>,
    operations: usize,
    fault: Fault,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Disk {
    pub(super) fn new(image: Vec<u8>, fault: Fault) -> Self {
        let state = State { seen: image.clone(), synced: image, unsynced: Vec::new(), operations: 0, fault };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Whether the fault has come.
    pub(super) fn failed(&self) -> bool {
        let state = self.0.lock().unwrap();
        match state.fault {
            Fault::Never => false,
            Fault::From(n) | Fault::Once(n) => state.operations > n,
        }
    }

    /// From now on this fault comes, operations counted from here.
    pub(super) fn set_fault(&self, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        (state.operations, state.fault) = (0, fault);
    }

    /// The content after a crash. The disk stays dead, and its content what it was.
    pub(super) fn crash(&self, survivors: Survivors) -> Vec<u8> {
        let mut state = self.0.lock().unwrap();
        state.fault = Fault::From(0);
        let mut image = state.synced.clone();
        let mut random = match survivors {
            Survivors::Some(seed) => seed,
            Survivors::All | Survivors::None => 0,
        };
        for write in state.unsynced.clone() {
            for part in write.sectors() {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let survives = match survivors {
                    Survivors::All => true,
                    Survivors::None => false,
                    Survivors::Some(_) => random >> 63 == 0,
                };
                if survives {
                    part.apply(&mut image);
                }
            }
        }
        image
    }

    fn operation<T>(&self, run: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        let this = state.operations;
        state.operations += 1;
        let fails = match state.fault {
            Fault::Never => false,
            Fault::From(n) => this >= n,
            Fault::Once(n) => this == n,
        };
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { run(&mut state) }
    }
}

impl State {
    fn write(&mut self, write: Write) {
        write.apply(&mut self.seen);
        self.unsynced.push(write);
    }
}

impl Write {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Bytes { offset, bytes } => {
                // The file may be shorter when the length that this write counted on was forgotten.
                let end = offset + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(bytes);
            }
            Self::Length(length) => image.resize(*length, 0),
        }
    }

    /// The parts of which each is written or not.
    fn sectors(self) -> Vec<Self> {
        match self {
            Self::Length(_) => vec![self],
            Self::Bytes { offset, bytes } => (offset..)
                .step_by(SECTOR)
                .zip(bytes.chunks(SECTOR))
                .map(|(offset, bytes)| Self::Bytes { offset, bytes: bytes.to_vec() })
                .collect(),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.operation(|state| Ok(state.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.operation(|state| {
            let offset = offset as usize;
            let bytes = state.seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.operation(|state| {
            state.write(Write::Length(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.operation(|state| {
            state.synced.clone_from(&state.seen);
            state.unsynced.clear();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.operation(|state| {
            state.write(Write::Bytes { offset: offset as usize, bytes: data.to_vec() });
            Ok(())
        })
    }
}
