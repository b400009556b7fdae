//! What the store targets share: a sound store whose small files are damaged, and a reader that must survive.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use arrow_storage::{Bm25, Memory, Options, Store, TextOptions};

/// A small file of a store, with the folder it lies in.
pub struct Part {
    folder: tempfile::TempDir,
    path: PathBuf,
    /// What a sound one holds.
    pub bytes: Vec<u8>,
}

impl Part {
    /// The file of a sound store whose name starts, or ends, with `prefix`.
    pub fn of(prefix: &str) -> Self {
        Self::build(prefix).expect("a sound store can be written")
    }

    fn build(prefix: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let store = Store::open(folder.path(), Options::default(), &mut || Ok(()))?;
        store.save((0..3).map(memory).collect(), false, &mut || Ok(()))?;
        store.flush(&mut || Ok(()))?;
        store.save((2..5).map(memory).collect(), false, &mut || Ok(()))?;
        store.delete(&["memory 0".to_owned()], &mut || Ok(()))?;
        // Not closed, which would empty the log.
        drop(store);
        let path = std::fs::read_dir(folder.path())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| starts_with(path, prefix))
            .ok_or("the store lacks the file")?;
        let bytes = std::fs::read(&path)?;
        Ok(Self {
            folder,
            path,
            bytes,
        })
    }

    /// Opens the store with `bytes` in the file's place, strictly and around damage; errors are welcome.
    pub fn read(&self, bytes: &[u8]) {
        if std::fs::write(&self.path, bytes).is_err() {
            return;
        }
        for skip_damaged in [false, true] {
            let options = Options {
                read_only: true,
                skip_damaged,
                ..Options::default()
            };
            let Ok(store) = Store::open(self.folder.path(), options, &mut || Ok(())) else {
                continue;
            };
            if let Ok(snapshot) = store.snapshot() {
                let options = TextOptions {
                    top_k: 3,
                    filter: None,
                    bm25: Bm25::default(),
                };
                let _ = snapshot.search_text("what it says", &options);
                for id in snapshot.ids(None).unwrap_or_default() {
                    let _ = snapshot.load(&id);
                }
            }
            let _ = store.verify(&mut || Ok(()));
        }
    }
}

fn memory(number: u8) -> Memory {
    let vector = vec![f32::from(number), 1.0, 0.5, 2.0];
    Memory::new(
        format!("memory {number}"),
        "what it says".into(),
        "{}".into(),
        vector,
    )
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .map(|name| name.to_string_lossy())
        .is_some_and(|name| name.starts_with(prefix) || name.ends_with(prefix))
}

/// The part that all inputs of a target damage.
pub fn shared(prefix: &'static str) -> &'static Part {
    static PART: OnceLock<Part> = OnceLock::new();
    PART.get_or_init(|| Part::of(prefix))
}
