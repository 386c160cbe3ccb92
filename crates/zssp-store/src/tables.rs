//! The tables of the file, and what one transaction does to them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format` | version of the file's format:4 |
//! | `meta` | `salt` | 32 random bytes, drawn once |
//! | `peers` | name of the peer | record of its ratchet pair |
//! | `owners` | tag of a fingerprint:32, name of the peer | nothing |
//!
//! A fingerprint is looked up by its tag, `SHA-256(salt || fingerprint)`: the time a search in a tree takes depends on
//! the bytes searched for, and strangers choose what fingerprint a hello names.

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    TableError, TableHandle,
};
use sha2::{Digest, Sha256};
use zssp_proto::{Fingerprint, PeerName, RatchetPair, RatchetState};

use crate::record::{self, RecordError};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const PEERS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("peers");
const OWNERS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("owners");

/// The version of the file's format that this code reads and writes.
const FORMAT: u32 = 1;
const TAG: usize = 32;
type Salt = [u8; 32];
type Tag = [u8; TAG];

/// What went wrong in a transaction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// One record cannot be read; the others can.
    #[error("{0}; forget the peer or preset a ratchet for it")]
    Record(#[from] RecordError),
    /// The file or the disk.
    #[error(transparent)]
    Redb(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

/// Why a database is not one of ours.
#[derive(Debug)]
pub(crate) enum Foreign {
    Failure(redb::Error),
    Format(u32),
    NotAStore,
    Random,
}

impl<E: Into<redb::Error>> From<E> for Foreign {
    fn from(error: E) -> Self {
        Self::Failure(error.into())
    }
}

/// What to do with the pair of one peer.
pub(crate) struct Change {
    pub(crate) peer: PeerName,
    pub(crate) only_if: OnlyIf,
    /// `None` to forget.
    pub(crate) new: Option<RatchetPair>,
}

/// What must be stored for a change to be made.
pub(crate) enum OnlyIf {
    /// Whatever is there, even a record that cannot be read.
    Anything,
    /// No history with the peer.
    NeverMet,
    /// The same states.
    Same(RatchetPair),
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Conflict,
    /// Made; there was no record before.
    First,
    /// Made; there was a record before.
    Replaced,
}

/// A database with our tables in it.
pub(crate) struct Tables {
    database: Database,
    salt: Salt,
}

impl Tables {
    /// Makes sure that `database` is a store of ours, or makes one of it if it is empty.
    pub(crate) fn adopt(database: Database) -> Result<Self, Foreign> {
        let salt = match salt(&database.begin_read()?)? {
            Some(salt) => salt,
            None => format(&database)?,
        };
        Ok(Self { database, salt })
    }

    pub(crate) fn load(&self, peer: &PeerName) -> Result<RatchetPair, Failure> {
        let peers = self.database.begin_read()?.open_table(PEERS)?;
        let record = peers.get(peer.as_bytes())?;
        Ok(record.map_or_else(|| Ok(RatchetPair::never_met()), |record| record::parse(record.value()))?)
    }

    pub(crate) fn find(&self, fingerprint: &Fingerprint) -> Result<Option<RatchetState>, Failure> {
        if fingerprint.is_zero() {
            return Ok(None);
        }
        let transaction = self.database.begin_read()?;
        let (peers, owners) = (transaction.open_table(PEERS)?, transaction.open_table(OWNERS)?);
        let tag = tag(&self.salt, fingerprint);
        for owner in owners.range::<&[u8]>(&tag[..]..)? {
            let (owner, _) = owner?;
            let Some(peer) = owner.value().strip_prefix(&tag) else { break };
            let Some(record) = peers.get(peer)? else { continue };
            let pair = record::parse(record.value())?;
            //= ZSSP-RAT-06  found by tag, then compared in constant time
            if let Some(state) = pair.states().find(|state| state.fingerprint() == fingerprint) {
                return Ok(Some(state.duplicate()));
            }
        }
        Ok(None)
    }

    /// Every peer, in the order of their names, in one moment.
    pub(crate) fn for_each(
        &self,
        mut visit: impl FnMut(PeerName, Result<RatchetPair, RecordError>),
    ) -> Result<(), Failure> {
        for entry in self.database.begin_read()?.open_table(PEERS)?.iter()? {
            let (peer, record) = entry?;
            visit(PeerName::new(peer.value()), record::parse(record.value()));
        }
        Ok(())
    }

    //= ZSSP-RAT-02  on the disk before it returns
    //= ZSSP-RAT-03  compared and swapped in one transaction
    /// Makes the changes in order, all in one durable transaction. A change whose record cannot be read fails alone;
    /// when the disk fails, none is made.
    pub(crate) fn commit(&self, changes: &[Change]) -> Result<Vec<Result<Outcome, Failure>>, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let mut outcomes = Vec::with_capacity(changes.len());
        let mut writer = Writer {
            peers: transaction.open_table(PEERS)?,
            owners: transaction.open_table(OWNERS)?,
            salt: &self.salt,
        };
        for change in changes {
            match writer.make(change) {
                Err(Failure::Redb(error)) => return Err(error),
                outcome => outcomes.push(outcome),
            }
        }
        drop(writer);
        if outcomes.iter().any(|outcome| matches!(outcome, Ok(Outcome::First | Outcome::Replaced))) {
            transaction.commit()?;
        } else {
            transaction.abort()?;
        }
        Ok(outcomes)
    }
}

struct Writer<'a> {
    peers: Table<'a, &'static [u8], &'static [u8]>,
    owners: Table<'a, &'static [u8], ()>,
    salt: &'a Salt,
}

impl Writer<'_> {
    fn make(&mut self, change: &Change) -> Result<Outcome, Failure> {
        let name = change.peer.as_bytes();
        let stored = self.peers.get(name)?.map(|record| record::parse(record.value()));
        let outcome = if stored.is_some() { Outcome::Replaced } else { Outcome::First };
        let stored = match (stored, &change.only_if) {
            (None, _) => RatchetPair::never_met(),
            (Some(Ok(pair)), _) => pair,
            // The tags of its states stay behind, and lead to a record that does not have them.
            (Some(Err(_)), OnlyIf::Anything) => RatchetPair::never_met(),
            (Some(Err(error)), _) => return Err(error.into()),
        };
        let welcome = match &change.only_if {
            OnlyIf::Anything => true,
            OnlyIf::NeverMet => stored.is_never_met(),
            OnlyIf::Same(old) => stored.same(old),
        };
        if !welcome {
            return Ok(Outcome::Conflict);
        }
        for state in stored.states().filter(|state| !state.fingerprint().is_zero()) {
            self.owners.remove(&owner(self.salt, state.fingerprint(), name)[..])?;
        }
        let Some(new) = &change.new else {
            self.peers.remove(name)?;
            return Ok(outcome);
        };
        for state in new.states().filter(|state| !state.fingerprint().is_zero()) {
            self.owners.insert(&owner(self.salt, state.fingerprint(), name)[..], ())?;
        }
        self.peers.insert(name, &record::encode(new)[..])?;
        Ok(outcome)
    }
}

/// The salt of a store of ours; none if the database has no tables at all.
fn salt(transaction: &ReadTransaction) -> Result<Option<Salt>, Foreign> {
    let meta = match transaction.open_table(META) {
        Err(TableError::TableDoesNotExist(_)) if transaction.list_tables()?.next().is_none() => {
            return Ok(None);
        }
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Err(Foreign::NotAStore),
        Ok(meta) => meta,
    };
    let version = meta.get("format")?.and_then(|version| version.value().try_into().ok());
    match version.map(u32::from_be_bytes) {
        Some(FORMAT) => {}
        Some(other) => return Err(Foreign::Format(other)),
        None => return Err(Foreign::NotAStore),
    }
    for table in [PEERS.name(), OWNERS.name()] {
        if !transaction.list_tables()?.any(|found| found.name() == table) {
            return Err(Foreign::NotAStore);
        }
    }
    let salt = meta.get("salt")?.and_then(|salt| salt.value().try_into().ok());
    salt.map(Some).ok_or(Foreign::NotAStore)
}

/// Makes a store of an empty database.
fn format(database: &Database) -> Result<Salt, Foreign> {
    let mut salt = Salt::default();
    getrandom::fill(&mut salt).map_err(|_| Foreign::Random)?;
    let transaction = database.begin_write()?;
    let mut meta = transaction.open_table(META)?;
    meta.insert("format", &FORMAT.to_be_bytes()[..])?;
    meta.insert("salt", &salt[..])?;
    drop(meta);
    drop(transaction.open_table(PEERS)?);
    drop(transaction.open_table(OWNERS)?);
    transaction.commit()?;
    Ok(salt)
}

fn tag(salt: &Salt, fingerprint: &Fingerprint) -> Tag {
    Sha256::new().chain_update(salt).chain_update(fingerprint.as_bytes()).finalize().into()
}

/// The key that says that a state of the peer called `name` has `fingerprint`.
fn owner(salt: &Salt, fingerprint: &Fingerprint, name: &[u8]) -> Vec<u8> {
    [&tag(salt, fingerprint)[..], name].concat()
}
