//! The sessions of a context by their dense id.

use std::sync::Arc;

use crate::session::SessionId;
use crate::zke::state::Cell;

/// Slots that sessions take in turn.
#[derive(Default)]
pub(crate) struct Sessions {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    cell: Option<Arc<Cell>>,
}

impl Sessions {
    /// Puts the session that `make` builds for its id into a free slot; `None` when 2^32 are open.
    pub(crate) fn insert(&mut self, make: impl FnOnce(SessionId) -> Cell) -> Option<Arc<Cell>> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot { generation: 0, cell: None });
                index
            }
        };
        let slot = self.slots.get_mut(index as usize)?;
        let cell = Arc::new(make(SessionId { index, generation: slot.generation }));
        slot.cell = Some(cell.clone());
        Some(cell)
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<Arc<Cell>> {
        let slot = self.slots.get(id.index())?;
        if slot.generation == id.generation { slot.cell.clone() } else { None }
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        let Some(slot) = self.slots.get_mut(id.index()) else { return };
        if slot.generation == id.generation && slot.cell.take().is_some() {
            // A slot whose generations are used up is left empty for good, so that no id ever comes back.
            if let Some(next) = slot.generation.checked_add(1) {
                slot.generation = next;
                self.free.push(id.index);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
