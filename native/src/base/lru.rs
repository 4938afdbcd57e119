//! What was used last, as much of it as has room.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

struct Entry<V> {
    value: V,
    weight: usize,
    used: u64,
}

/// Keeps values whose weights (bytes, or 1 each) add up to `capacity` at most.
pub struct Lru<K, V> {
    capacity: usize,
    entries: HashMap<K, Entry<V>>,
    /// Keys by the time of their last use, which is counted.
    order: BTreeMap<u64, K>,
    weight: usize,
    now: u64,
}

impl<K: Hash + Eq + Clone, V> Lru<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), order: BTreeMap::new(), weight: 0, now: 0 }
    }

    /// It counts as used.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let entry = self.entries.get_mut(key)?;
        self.now += 1;
        self.order.remove(&entry.used);
        self.order.insert(self.now, key.clone());
        entry.used = self.now;
        Some(&entry.value)
    }

    /// Whatever was there under the key is replaced. Returns what has no room any more, oldest first.
    pub fn put(&mut self, key: K, value: V, weight: usize) -> Vec<V> {
        self.now += 1;
        let entry = Entry { value, weight, used: self.now };
        let replaced = self.entries.insert(key.clone(), entry);
        let mut gone: Vec<V> = replaced.map(|old| self.let_go(old)).into_iter().collect();
        self.order.insert(self.now, key);
        self.weight += weight;
        gone.extend(self.shrink(self.capacity));
        gone
    }

    /// Lets go, oldest first, of what has no room in so much.
    pub fn shrink(&mut self, capacity: usize) -> Vec<V> {
        let mut gone = Vec::new();
        while self.weight > capacity {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            let Some(entry) = self.entries.remove(&oldest) else { break };
            gone.push(self.let_go(entry));
        }
        gone
    }

    fn let_go(&mut self, Entry { value, weight, used }: Entry<V>) -> V {
        self.order.remove(&used);
        self.weight -= weight;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let mut lru = Lru::new(10);
        for key in 0..3 {
            assert!(lru.put(key, key * 10, 3).is_empty());
        }
        assert_eq!(lru.get(&0), Some(&0));
        assert_eq!(lru.put(3, 30, 3), [10]);
        let mut get = |key| lru.get(&key).copied();
        assert_eq!([get(1), get(0), get(2)], [None, Some(0), Some(20)]);
        assert_eq!(lru.put(4, 40, 10), [30, 0, 20], "one that fills all pushes out all");
        assert_eq!(lru.put(5, 50, 11), [40, 50], "one that has no room alone is not kept");
        assert_eq!(lru.get(&5), None);
        lru.put(6, 60, 4);
        lru.put(7, 70, 4);
        assert_eq!(lru.shrink(5), [60]);
    }

    #[test]
    fn what_is_replaced_weighs_no_more() {
        let mut lru = Lru::new(10);
        assert!(lru.put('a', 1, 8).is_empty());
        assert_eq!(lru.put('a', 2, 8), [1]);
        assert_eq!(lru.get(&'a'), Some(&2));
        assert_eq!(lru.put('b', 3, 2), [] as [i32; 0]);
    }
}
