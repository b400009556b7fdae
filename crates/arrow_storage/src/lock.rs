//! One writer at a time: a lock of the operating system on the file LOCK.

use crate::error::{At, Error, Result};
use crate::vfs::{Vfs, VfsLock};
use std::path::Path;
use std::time::{Duration, Instant};

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
    let since = crate::memory::now_micros() / 1_000_000;
    let (id, host) = (std::process::id(), host_name());
    format!("process {id} on {host} (since {})", utc(since))
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

/// Seconds since the epoch as a date and a time.
fn utc(seconds: i64) -> String {
    // Days to a civil date, counting years from March of year 0 so that leap days come last.
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let second = seconds.rem_euclid(86_400);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        assert_eq!(super::utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(super::utc(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(super::utc(4_107_542_399), "2100-02-28 23:59:59 UTC");
    }
}
