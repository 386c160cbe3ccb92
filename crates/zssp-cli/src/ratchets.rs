//! The file that keeps what this side has in common with its peers, from one connection to the next.

use std::{path::Path, sync::Arc};

use zssp::{Builder, Redb};

use crate::exit::{Exit, Failure};

/// An open file of ratchets, which one process has at a time. Clones are the same file, for endpoints that follow each
/// other.
#[derive(Clone, Debug)]
pub(crate) struct Ratchets(Arc<Redb>);

impl Ratchets {
    /// Opens the file, or makes it; nothing where the user named none.
    pub(crate) fn open(path: Option<&Path>) -> Result<Option<Self>, Failure> {
        let store = path.map(Redb::open).transpose();
        let store = store.map_err(|error| Failure::new(Exit::Local, error.to_string()))?;
        Ok(store.map(|store| Self(Arc::new(store))))
    }
}

/// Has the endpoint keep its ratchets in the file, if there is one.
pub(crate) fn kept(builder: Builder, ratchets: Option<&Ratchets>) -> Builder {
    match ratchets {
        Some(ratchets) => builder.store(ratchets.0.clone()),
        None => builder,
    }
}
