//! A stand-in for `papaya::HashMap` in models: as much of its interface as is used here, made of a pointer to a map that
//! every change replaces. A change and what its thread does next are two steps, which the real one does not show to
//! loom.

use core::hash::{BuildHasher, Hash};
use std::collections::HashMap as Map;
use std::sync::Arc;

use super::ArcSwapOption;

pub(crate) struct HashMap<K, V, S> {
    map: ArcSwapOption<Map<K, V, S>>,
}

/// The map at one moment.
pub(crate) struct Pinned<'m, K, V, S> {
    owner: &'m HashMap<K, V, S>,
    map: Arc<Map<K, V, S>>,
}

/// What `papaya` defers until no reader is left, happens here at once.
pub(crate) trait Guard {
    fn flush(&self) {}
}

pub(crate) struct Unguarded;

impl Guard for Unguarded {}

impl<K: Clone + Eq + Hash, V: Clone, S: BuildHasher + Clone> HashMap<K, V, S> {
    pub(crate) fn with_hasher(hasher: S) -> Self {
        Self { map: ArcSwapOption::from_pointee(Map::with_hasher(hasher)) }
    }

    pub(crate) fn pin(&self) -> Pinned<'_, K, V, S> {
        Pinned { owner: self, map: self.now() }
    }

    pub(crate) fn guard(&self) -> Unguarded {
        Unguarded
    }

    pub(crate) fn insert(&self, key: K, value: V, _: &impl Guard) {
        self.change(|map| map.insert(key, value));
    }

    pub(crate) fn remove(&self, key: &K, _: &impl Guard) {
        self.change(|map| map.remove(key));
    }

    pub(crate) fn len(&self) -> usize {
        self.now().len()
    }

    fn now(&self) -> Arc<Map<K, V, S>> {
        self.map.load_full().expect("there is always a map")
    }

    /// Models have one thread that changes a map.
    fn change<T>(&self, change: impl FnOnce(&mut Map<K, V, S>) -> T) {
        let mut map = Map::clone(&self.now());
        change(&mut map);
        self.map.store(Some(Arc::new(map)));
    }
}

impl<K: Clone + Eq + Hash, V: Clone, S: BuildHasher + Clone> Pinned<'_, K, V, S> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    pub(crate) fn try_insert(&self, key: K, value: V) -> Result<(), V> {
        if self.map.contains_key(&key) {
            return Err(value);
        }
        self.owner.insert(key, value, &Unguarded);
        Ok(())
    }
}
