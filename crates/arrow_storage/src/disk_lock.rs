//! A lock of the operating system on a file, which a fork does not share.
//!
//! `flock` belongs to the open file, and a forked process has the same open file: it would go on holding
//! the lock when its parent is killed, and could release it while its parent writes. So a fork closes, in the
//! child, every file that is locked.

use crate::vfs::VfsLock;
use rustix::fs::FlockOperation;
use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, OnceLock};

/// Files that this process has locked.
static LOCKED: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// A locked file.
#[derive(Debug)]
pub(crate) struct DiskLock {
    /// In a forked child, a number that may mean another file by now.
    file: ManuallyDrop<File>,
    holder: u32,
}

/// Opens and locks a file without waiting; `None` while another holds it.
pub(crate) fn try_lock(open: impl FnOnce() -> io::Result<File>) -> io::Result<Option<DiskLock>> {
    close_in_forks()?;
    // A fork waits until the file is in the list.
    let mut locked = crate::segment::lock(&LOCKED);
    let file = open()?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    locked.push(file.as_raw_fd());
    Ok(Some(DiskLock {
        file: ManuallyDrop::new(file),
        holder: std::process::id(),
    }))
}

impl DiskLock {
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl VfsLock for DiskLock {
    fn describe(&self, holder: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(holder.as_bytes(), 0)
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        if self.holder != std::process::id() {
            return;
        }
        // Whoever comes next should not read of a holder that is none, and a child that was forked just now may
        // not have closed the file yet. Should either fail, closing releases the lock.
        let _ = self.file.set_len(0);
        let _ = rustix::fs::flock(&*self.file, FlockOperation::Unlock);
        let mut locked = crate::segment::lock(&LOCKED);
        locked.retain(|&file| file != self.file.as_raw_fd());
        // SAFETY: the file is not used after this.
        unsafe { ManuallyDrop::drop(&mut self.file) };
    }
}

thread_local! {
    /// Held by a thread while it forks, so that the list is whole in the child.
    static FORKING: RefCell<Option<MutexGuard<'static, Vec<RawFd>>>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    // A thread that ends and forks has no place for it; its child keeps the list as it is.
    let _ = FORKING.try_with(|forking| *forking.borrow_mut() = Some(crate::segment::lock(&LOCKED)));
}

extern "C" fn after_fork_in_parent() {
    let _ = FORKING.try_with(|forking| forking.borrow_mut().take());
}

extern "C" fn after_fork_in_child() {
    let Ok(Some(mut locked)) = FORKING.try_with(|forking| forking.borrow_mut().take()) else {
        return;
    };
    for file in locked.drain(..) {
        // SAFETY: the list holds open files, and their owners leave them alone in a forked child.
        unsafe { rustix::io::close(file) };
    }
}

/// Has every fork from now on close the locked files in the child.
fn close_in_forks() -> io::Result<()> {
    static STATUS: OnceLock<i32> = OnceLock::new();
    let status = STATUS.get_or_init(|| {
        // SAFETY: the handlers allocate nothing, wait for no lock but that of the list, which the forking
        // thread does not hold, and never unwind.
        unsafe {
            libc::pthread_atfork(
                Some(before_fork),
                Some(after_fork_in_parent),
                Some(after_fork_in_child),
            )
        }
    });
    match *status {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
