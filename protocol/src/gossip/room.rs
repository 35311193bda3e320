//! A place to wait in, shared out fairly among links.
//!
//! In: what waits, over which link it came, what it weighs. Out: one of each link in turn. A link has at most its share, and when all
//! places are taken, whoever has most gives way to whoever has less: a crowd that one peer sends keeps nobody else out.
//! What a link leaves behind counts as nobody's. Read next: `pending`.

use crate::id::LinkId;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Bound;

/// Whose things are that came over links which are gone.
pub(super) const NOBODY: LinkId = LinkId(u64::MAX);

/// The places, by link and by a key of the user's.
#[derive(Debug)]
pub(super) struct Room<K, V> {
    lines: BTreeMap<LinkId, Line<K, V>>,
    len: usize,
    weight: usize,
    /// What one link's may weigh.
    share: usize,
    /// What all of it may weigh.
    most: usize,
    /// Whose turn it was.
    served: LinkId,
}

/// What one link has here.
#[derive(Debug)]
struct Line<K, V> {
    entries: BTreeMap<K, (usize, V)>,
    weight: usize,
}

/// Something that found no place, or lost it.
pub(super) type Lost<K, V> = (LinkId, K, V);

impl<K: Ord + Copy, V> Room<K, V> {
    pub fn new(share: usize, most: usize) -> Room<K, V> {
        Room { lines: BTreeMap::new(), len: 0, weight: 0, share, most, served: NOBODY }
    }

    pub const fn len(&self) -> usize {
        self.len
    }

    /// Takes it in, in the place of what has the same key there. Gives back what has no place any more: it, or others.
    pub fn put(&mut self, link: LinkId, key: K, weight: usize, value: V) -> Vec<Lost<K, V>> {
        let mut lost: Vec<Lost<K, V>> =
            self.take(link, &key).map(|old| (link, key, old)).into_iter().collect();
        let mine = self.weight_of(link).saturating_add(weight);
        if mine > self.share {
            lost.push((link, key, value));
            return lost;
        }
        while self.weight.saturating_add(weight) > self.most {
            let heaviest =
                self.lines.iter().max_by_key(|(_, line)| line.weight).map(|(l, line)| (*l, line.weight));
            let Some((other, _)) = heaviest.filter(|(_, theirs)| *theirs > mine) else {
                lost.push((link, key, value));
                return lost;
            };
            let last = self.lines.get(&other).and_then(|line| line.entries.keys().next_back().copied());
            let Some(last) = last else { break };
            lost.extend(self.take(other, &last).map(|value| (other, last, value)));
        }
        let line = self.lines.entry(link).or_insert(Line { entries: BTreeMap::new(), weight: 0 });
        line.entries.insert(key, (weight, value));
        line.weight += weight;
        self.weight += weight;
        self.len += 1;
        lost
    }

    fn weight_of(&self, link: LinkId) -> usize {
        self.lines.get(&link).map_or(0, |line| line.weight)
    }

    pub fn take(&mut self, link: LinkId, key: &K) -> Option<V> {
        let line = self.lines.get_mut(&link)?;
        let (weight, value) = line.entries.remove(key)?;
        line.weight -= weight;
        self.weight -= weight;
        self.len -= 1;
        if line.entries.is_empty() {
            self.lines.remove(&link);
        }
        Some(value)
    }

    /// The first of whoever's turn it is.
    pub fn next(&mut self) -> Option<Lost<K, V>> {
        let after = self.lines.range((Bound::Excluded(self.served), Bound::Unbounded)).next();
        let (link, line) = after.or_else(|| self.lines.iter().next())?;
        let (link, key) = (*link, *line.entries.keys().next()?);
        self.served = link;
        self.take(link, &key).map(|value| (link, key, value))
    }

    /// Who has something under this key.
    pub fn links(&self, key: &K) -> Vec<LinkId> {
        self.lines.iter().filter(|(_, line)| line.entries.contains_key(key)).map(|(link, _)| *link).collect()
    }

    pub fn get(&self, link: LinkId, key: &K) -> Option<&V> {
        self.lines.get(&link)?.entries.get(key).map(|(_, value)| value)
    }

    /// What all links have under this key.
    pub fn get_all<'a>(&'a self, key: &'a K) -> impl Iterator<Item = &'a V> + 'a {
        self.lines.values().filter_map(move |line| line.entries.get(key).map(|(_, value)| value))
    }

    pub fn take_all(&mut self, key: &K) -> Vec<(LinkId, V)> {
        let links = self.links(key);
        links.into_iter().filter_map(|link| self.take(link, key).map(|value| (link, value))).collect()
    }

    /// All that a link has.
    pub fn clear(&mut self, link: LinkId) -> Vec<Lost<K, V>> {
        let Some(line) = self.lines.remove(&link) else { return vec![] };
        self.weight -= line.weight;
        self.len -= line.entries.len();
        line.entries.into_iter().map(|(key, (_, value))| (link, key, value)).collect()
    }

    /// The link is gone: what it has is nobody's from now on, as far as there is place.
    pub fn leave(&mut self, link: LinkId) -> Vec<Lost<K, V>> {
        let Some(line) = self.lines.remove(&link) else { return vec![] };
        self.weight -= line.weight;
        self.len -= line.entries.len();
        let entries = line.entries.into_iter();
        entries.flat_map(|(key, (weight, value))| self.put(NOBODY, key, weight, value)).collect()
    }

    /// Drops what `stays` says no to.
    pub fn retain(&mut self, mut stays: impl FnMut(&V) -> bool) {
        let gone: Vec<(LinkId, K)> = self
            .lines
            .iter()
            .flat_map(|(link, line)| line.entries.iter().map(move |(key, (_, value))| (*link, *key, value)))
            .filter(|(_, _, value)| !stays(value))
            .map(|(link, key, _)| (link, key))
            .collect();
        gone.iter().for_each(|(link, key)| drop(self.take(*link, key)));
    }
}

#[cfg(test)]
mod tests;
