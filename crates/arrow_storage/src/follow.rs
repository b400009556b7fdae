//! A reader keeps up with the writer without ever blocking it.

use crate::error::{At, Result};
use crate::recovery::{self, Loaded};
use crate::state::State;
use crate::tail::Tail;
use crate::vfs::{Stamp, Vfs};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// Where a reader is.
#[derive(Debug)]
pub(crate) struct Follower {
    stamp: Stamp,
    tail: Tail,
}

impl Follower {
    pub(crate) fn new(vfs: &dyn Vfs, loaded: &Loaded) -> Result<Self> {
        let mut tail = Tail::default();
        for (entry, (path, end)) in loaded.state.manifest.logs().zip(&loaded.logs) {
            let file = match vfs.open(path, false) {
                // Damage that is being skipped: there is nothing to follow.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                other => Some(other.at("open", path)?),
            };
            tail.push(file, path, entry.salt, *end);
        }
        Ok(Self {
            stamp: loaded.stamp,
            tail,
        })
    }

    /// Brings the state up to the last commit: a look at the manifest and at the end of the log, when
    /// neither changed.
    pub(crate) fn refresh(
        &mut self,
        vfs: &dyn Vfs,
        dir: &Path,
        shared: &RwLock<Arc<State>>,
        skip: bool,
    ) -> Result<()> {
        let manifest = crate::manifest::path(dir);
        if vfs.stamp(&manifest).at("look at", &manifest)? != self.stamp {
            let state = shared
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let loaded = recovery::load(vfs, dir, &state.segments, skip)?;
            *self = Self::new(vfs, &loaded)?;
            *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded.state);
        }
        let commits = self.tail.read_new()?;
        if !commits.is_empty() {
            let mut state = shared.write().unwrap_or_else(PoisonError::into_inner);
            for operations in commits {
                Arc::make_mut(&mut state).apply(operations)?;
            }
        }
        Ok(())
    }
}
