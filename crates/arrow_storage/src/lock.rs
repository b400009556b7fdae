//! One writer at a time: a lock of the operating system on the file LOCK.

use crate::error::{At, Error, Result};
use crate::vfs::{Vfs, VfsLock};
use std::path::Path;
use std::time::{Duration, Instant};

const NAME: &str = "LOCK";
const POLL: Duration = Duration::from_millis(10);

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
            let holder = vfs
                .read(&path)
                .ok()
                .and_then(|text| String::from_utf8(text).ok());
            return Err(Error::Locked {
                path: dir.to_owned(),
                holder: holder
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| "another process".to_owned()),
            });
        }
        check()?;
        std::thread::sleep(POLL.min(timeout));
    }
}

fn describe_self() -> String {
    let host = rustix::system::uname();
    let since = crate::memory::now_micros() / 1_000_000;
    format!(
        "process {} on {} (since {})",
        std::process::id(),
        host.nodename().to_string_lossy(),
        utc(since)
    )
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
