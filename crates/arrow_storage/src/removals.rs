//! What the latest commits removed or replaced. The commit behind says it again, so that reading around the damaged
//! record of one shows nothing that it removed.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Ids are listed up to this much: every commit repeats them.
const MAX_BYTES: usize = 256;

/// Which memories a commit removed or replaced.
#[derive(Debug, Default, Clone)]
pub(crate) struct Removed {
    ids: Vec<String>,
    size_bytes: usize,
}

impl Removed {
    pub(crate) fn add(&mut self, id: &str) {
        self.size_bytes += id.len();
        if self.size_bytes <= MAX_BYTES {
            self.ids.push(id.to_owned());
        }
    }

    /// Their ids; `None` when they are too many to list.
    pub(crate) fn listed(&self) -> Option<&[String]> {
        (self.size_bytes <= MAX_BYTES).then_some(&self.ids)
    }
}

/// The removals of the latest commits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Removals {
    /// The last commit that removed something and is not listed.
    pub(crate) unlisted: u64,
    /// Numbers of commits and the ids that they removed, oldest first.
    pub(crate) listed: VecDeque<(u64, Vec<String>)>,
}

impl Removals {
    /// Takes in what commit `seq`, the next one, removed.
    pub(crate) fn note(&mut self, seq: u64, removed: Removed) {
        if removed.size_bytes == 0 {
            return;
        }
        if removed.listed().is_none() {
            self.unlisted = seq;
            self.listed.clear();
            return;
        }
        self.listed.push_back((seq, removed.ids));
        while self.size_bytes() > MAX_BYTES
            && let Some((seq, _)) = self.listed.pop_front()
        {
            self.unlisted = seq;
        }
    }

    /// What commit `first` and those behind it removed; none when it is not known.
    pub(crate) fn since(&self, first: u64) -> Option<impl Iterator<Item = &str>> {
        let commits = self.listed.iter().filter(move |(seq, _)| *seq >= first);
        (self.unlisted < first).then(|| commits.flat_map(|(_, ids)| ids).map(String::as_str))
    }

    fn size_bytes(&self) -> usize {
        let ids = self.listed.iter().flat_map(|(_, ids)| ids);
        ids.map(String::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, Removals, Removed};

    fn removed(ids: &[&str]) -> Removed {
        let mut removed = Removed::default();
        for id in ids {
            removed.add(id);
        }
        removed
    }

    #[test]
    fn the_latest_are_listed_and_the_others_known_to_be_unknown() {
        let mut removals = Removals::default();
        assert_eq!(removals.since(1).unwrap().count(), 0);
        removals.note(3, removed(&["a", "b"]));
        removals.note(4, removed(&[]));
        removals.note(5, removed(&["c"]));
        assert_eq!(
            removals.since(1).unwrap().collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert_eq!(removals.since(4).unwrap().collect::<Vec<_>>(), ["c"]);
        removals.note(6, removed(&["x".repeat(MAX_BYTES - 1).as_str()]));
        assert!(removals.since(3).is_none());
        assert_eq!(removals.since(5).unwrap().count(), 2);
        removals.note(9, removed(&["x".repeat(MAX_BYTES).as_str(), "y"]));
        assert!(removals.since(9).is_none());
        assert_eq!(removals.since(10).unwrap().count(), 0);
    }
}
