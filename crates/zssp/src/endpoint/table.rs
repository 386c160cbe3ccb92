//! Which connection a session id belongs to.

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
pub(crate) struct Table(HashMap<SessionId, Weak<Shared>>);

impl Table {
    pub(crate) fn find(&self, id: SessionId) -> Option<Arc<Shared>> {
        self.0.pin().get(&id)?.upgrade()
    }

    pub(crate) fn insert(&self, connection: &Arc<Shared>) {
        self.0.pin().insert(connection.session.id(), Arc::downgrade(connection));
    }

    /// Removes this very connection: no id ever comes back.
    pub(crate) fn remove(&self, connection: &Shared) {
        self.0.pin().remove(&connection.session.id());
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        self.0.pin().values().filter_map(Weak::upgrade).collect()
    }
}
