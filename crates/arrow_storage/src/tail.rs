//! The end of the log, followed by a reader: over from one log to the next.

use crate::error::{At, Result};
use crate::frame::{self, Body, Frame, HEADER_BYTES, Header, Operation};
use crate::vfs::VfsFile;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// The logs of a manifest, oldest first, from where they were read up to.
#[derive(Debug, Default)]
pub(crate) struct Tail(VecDeque<Followed>);

#[derive(Debug)]
struct Followed {
    /// None where damage is being skipped and the file is gone.
    file: Option<Box<dyn VfsFile>>,
    path: PathBuf,
    salt: u32,
    end: u64,
}

impl Tail {
    /// Adds the next log, which was read up to `end`.
    pub(crate) fn push(
        &mut self,
        file: Option<Box<dyn VfsFile>>,
        path: &Path,
        salt: u32,
        end: u64,
    ) {
        self.0.push_back(Followed {
            file,
            path: path.to_owned(),
            salt,
            end,
        });
    }

    /// Reads the commits written since the last call; one still being written waits for the next.
    pub(crate) fn read_new(&mut self) -> Result<Vec<Vec<Operation>>> {
        let mut commits = Vec::new();
        loop {
            // A log is whole before the next one begins, and is read after that was seen.
            let next = self.0.get(1).map(Followed::frame).transpose()?;
            let Some(first) = self.0.front_mut() else {
                return Ok(commits);
            };
            while let Some(frame) = first.frame()? {
                first.end += frame.len as u64;
                if let Body::Operations(operations) = frame.body {
                    commits.push(operations);
                }
            }
            if next.flatten().is_none() {
                return Ok(commits);
            }
            self.0.pop_front();
        }
    }
}

impl Followed {
    /// The frame at the end of what was read, once it is whole.
    fn frame(&self) -> Result<Option<Frame>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let read = |bytes: &mut [u8]| file.read_at(bytes, self.end).at("read", &self.path);
        let mut head = [0; HEADER_BYTES];
        if read(&mut head)? < HEADER_BYTES {
            return Ok(None);
        }
        let Some(header) = Header::read(&head) else {
            return Ok(None);
        };
        let mut bytes = vec![0; header.frame_len()];
        let len = read(&mut bytes)?;
        frame::decode(&self.path, self.salt, &bytes[..len])
    }
}
