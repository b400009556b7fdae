//! One writer at a time: a lock of the operating system on the file LOCK.

use crate::error::{At, Error, Result};
use crate::vfs::{Vfs, VfsLock};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const NAME: &str = "LOCK";
const POLL: Duration = Duration::from_millis(10);
/// Looks at the description of a holder, one every `POLL`.
const DESCRIBED_WITHIN: usize = 10;

/// Takes the writer's lock, waiting at most `timeout`. `check` is called while waiting.
///
/// The system releases the lock when its holder ends, however it ends.
pub(crate) fn acquire(
    vfs: &dyn Vfs,
    dir: &Path,
    timeout: Duration,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<Box<dyn VfsLock>> {
    let path = dir.join(NAME);
    let begun = Instant::now();
    loop {
        if let Some(lock) = vfs.try_lock(&path).at("lock", &path)? {
            lock.describe(&describe_self()).at("write", &path)?;
            return Ok(lock);
        }
        if begun.elapsed() >= timeout {
            return Err(Error::Locked {
                path: dir.to_owned(),
                holder: holder(vfs, &path).unwrap_or_else(|| "another process".to_owned()),
            });
        }
        check()?;
        std::thread::sleep(POLL.min(timeout));
    }
}

/// How the holder of a lock describes itself. A new holder may not have done so yet, and the words of one
/// that was killed still stand then.
fn holder(vfs: &dyn Vfs, path: &Path) -> Option<String> {
    for _ in 0..DESCRIBED_WITHIN {
        let text = String::from_utf8(vfs.read(path).ok()?).ok()?;
        if !text.is_empty() && !is_of_the_dead(&text) {
            return Some(text);
        }
        std::thread::sleep(POLL);
    }
    None
}

fn describe_self() -> String {
    let (id, host) = (std::process::id(), host_name());
    let since = humantime::format_rfc3339_seconds(SystemTime::now().max(UNIX_EPOCH));
    format!("process {id} on {host} (since {since})")
}

/// Whether a description is that of a process of this host that is no more.
fn is_of_the_dead(description: &str) -> bool {
    let mut words = description.split(' ');
    let (Some("process"), Some(id), Some("on"), Some(host)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let process = id.parse().ok().and_then(rustix::process::Pid::from_raw);
    let probe = process.map(rustix::process::test_kill_process);
    host == host_name() && matches!(probe, Some(Err(rustix::io::Errno::SRCH)))
}

fn host_name() -> String {
    let host = rustix::system::uname();
    host.nodename().to_string_lossy().into_owned()
}
