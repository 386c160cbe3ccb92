//! Which connection a session id belongs to.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use papaya::HashMap;
use zssp_proto::SessionId;

use crate::connection::Shared;

/// Connections by their session. Read for every batch of payloads, without a lock and so without waiting for connections
/// that come and go.
///
/// It does not keep them alive, their drivers do: the map forgets what was removed only later, and a connection keeps its
/// endpoint, and with it this table.
#[derive(Default)]
pub(crate) struct Table {
    connections: HashMap<SessionId, Weak<Shared>>,
    /// Exact, so that of those who leave at the same time exactly one is the last.
    count: AtomicUsize,
}

impl Table {
    pub(crate) fn find(&self, id: SessionId) -> Option<Arc<Shared>> {
        self.connections.pin().get(&id)?.upgrade()
    }

    pub(crate) fn insert(&self, connection: &Arc<Shared>) {
        // Counted before it can be found, and so removed.
        self.count.fetch_add(1, Ordering::SeqCst);
        self.connections.pin().insert(connection.session.id(), Arc::downgrade(connection));
    }

    /// Removes this very connection, and says how many are left.
    pub(crate) fn remove(&self, connection: &Shared) -> usize {
        match self.connections.pin().remove(&connection.session.id()) {
            Some(_) => self.count.fetch_sub(1, Ordering::SeqCst) - 1,
            None => self.len(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        self.connections.pin().values().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.len()).finish_non_exhaustive()
    }
}
