//! Which connection a session id belongs to.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use papaya::HashMap;
use zssp_proto::SessionId;

use crate::connection::Shared;

/// Connections by their session's dense index. Read for every batch of payloads, without a lock and so without waiting
/// for connections that come and go.
///
/// It does not keep them alive, their drivers do: the map forgets what was removed only later, and a connection keeps its
/// endpoint, and with it this table.
#[derive(Default)]
pub(crate) struct Table {
    connections: HashMap<usize, (SessionId, Weak<Shared>)>,
    /// Exact, so that of those who leave at the same time exactly one is the last.
    count: AtomicUsize,
}

impl Table {
    pub(crate) fn find(&self, id: SessionId) -> Option<Arc<Shared>> {
        let connections = self.connections.pin();
        let (held, connection) = connections.get(&id.index())?;
        if *held == id { connection.upgrade() } else { None }
    }

    /// Yields the older connection in the same place, whose session has ended: indices are given again only after that.
    pub(crate) fn insert(&self, connection: &Arc<Shared>) -> Option<Arc<Shared>> {
        let id = connection.session.id();
        // Counted before it can be found, and so removed.
        self.count.fetch_add(1, Ordering::SeqCst);
        let connections = self.connections.pin();
        let (_, older) = connections.insert(id.index(), (id, Arc::downgrade(connection)))?;
        self.count.fetch_sub(1, Ordering::SeqCst);
        older.upgrade()
    }

    /// Removes this very connection, and says how many are left.
    pub(crate) fn remove(&self, connection: &Shared) -> usize {
        let id = connection.session.id();
        let connections = self.connections.pin();
        match connections.remove_if(&id.index(), |_, (held, _)| *held == id) {
            Ok(Some(_)) => self.count.fetch_sub(1, Ordering::SeqCst) - 1,
            Ok(None) | Err(_) => self.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        self.connections.pin().values().filter_map(|(_, connection)| connection.upgrade()).collect()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.len()).finish_non_exhaustive()
    }
}
