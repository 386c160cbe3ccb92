//! Which connection a session id belongs to.

use std::sync::{Arc, PoisonError, RwLock};

use zssp_proto::SessionId;

use crate::connection::Shared;

/// Connections by their session's dense index. Read for every payload, written when a connection comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Table(RwLock<Slots>);

#[derive(Debug, Default)]
struct Slots {
    connections: Vec<Option<Arc<Shared>>>,
    count: usize,
}

impl Table {
    pub(crate) fn find(&self, id: SessionId) -> Option<Arc<Shared>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let connection = slots.connections.get(id.index())?.as_ref()?;
        (connection.session.id() == id).then(|| connection.clone())
    }

    /// An older connection in the same place has ended: indices are given again only after that.
    pub(crate) fn insert(&self, connection: Arc<Shared>) {
        let index = connection.session.id().index();
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if slots.connections.len() <= index {
            slots.connections.resize_with(index + 1, || None);
        }
        let replaced = slots.connections[index].replace(connection);
        slots.count += usize::from(replaced.is_none());
        drop(slots);
        drop(replaced);
    }

    /// Removes this very connection, and says how many are left.
    pub(crate) fn remove(&self, connection: &Shared) -> usize {
        let id = connection.session.id();
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.connections.get_mut(id.index());
        let removed = slot.and_then(|slot| slot.take_if(|held| held.session.id() == id));
        slots.count -= usize::from(removed.is_some());
        let count = slots.count;
        drop(slots);
        drop(removed);
        count
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).count
    }

    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.connections.iter().flatten().cloned().collect()
    }
}
