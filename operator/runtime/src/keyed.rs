//! What everybody shares who names the same key, for as long as somebody has it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Made when it is asked for first, and gone with the last who has it.
pub struct Keyed<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K, V> Default for Keyed<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Keyed<K, V> {
    /// The one that others of this key have now, or a new one.
    pub fn get(&self, key: K, new: impl FnOnce() -> V) -> Arc<V> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, one| one.strong_count() > 0);
        let made = Arc::new(new());
        all.insert(key, Arc::downgrade(&made));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_that_nobody_has() {
        let keyed = Keyed::default();
        let one = keyed.get("a", || 1);
        assert_eq!(*keyed.get("a", || 2), 1);
        drop(one);
        assert_eq!(*keyed.get("a", || 3), 3);
        let _kept = keyed.get("b", || 4);
        assert_eq!(keyed.0.lock().unwrap().len(), 1);
    }
}
