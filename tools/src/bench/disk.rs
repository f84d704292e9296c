//! The disk by itself, measured in the same run: what a figure of the cluster has to be held against.

use crate::clock;
use crate::output::count;
use anyhow::Context as _;
use serde::Serialize;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// How fast one thread makes small writes durable, one after the other.
#[derive(Clone, Debug, Serialize)]
pub struct DiskRate {
    /// `pwrite` and `fdatasync` of 4 KiB into a zero-filled file, a second.
    pub syncs_per_second: f64,
    /// The middle one's time.
    pub sync_us_p50: u64,
    /// 99 of 100 took at most this.
    pub sync_us_p99: u64,
}

/// Measures the disk that holds `folder`.
///
/// # Errors
/// The folder cannot be written to.
pub fn measure(folder: &Path) -> anyhow::Result<DiskRate> {
    let file = tempfile::tempfile_in(folder).with_context(|| {
        format!("cannot write to {}: name another folder with --disk-dir", folder.display())
    })?;
    let mut times =
        time_syncs(&file).with_context(|| format!("cannot sync a file in {}", folder.display()))?;
    times.sort_unstable();
    let total: Duration = times.iter().sum();
    let at = |per_cent: usize| {
        let place = (times.len() * per_cent / 100).min(times.len() - 1);
        u64::try_from(times[place].as_micros()).unwrap_or(u64::MAX)
    };
    Ok(DiskRate {
        syncs_per_second: times.len() as f64 / total.as_secs_f64(),
        sync_us_p50: at(50),
        sync_us_p99: at(99),
    })
}

fn time_syncs(file: &File) -> std::io::Result<Vec<Duration>> {
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let block = vec![0x5a; BLOCK_BYTES];
    let start = clock::monotonic();
    let mut times = Vec::new();
    let mut at = 0;
    while times.is_empty() || start.elapsed() < MEASURED {
        let begun = clock::monotonic();
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        times.push(begun.elapsed());
        at = (at + BLOCK_BYTES as u64) % FILE_BYTES as u64;
    }
    Ok(times)
}

impl DiskRate {
    /// A line for people.
    pub fn line(&self) -> String {
        format!(
            "the disk alone, just before: {} writes of 4 KiB made durable a second, one by one; p50 {:.2} ms, p99 {:.2} ms\n",
            count(super::report::rounded(self.syncs_per_second)),
            self.sync_us_p50 as f64 / 1000.0,
            self.sync_us_p99 as f64 / 1000.0,
        )
    }
}

const BLOCK_BYTES: usize = 4096;
const FILE_BYTES: usize = 16 << 20;
const MEASURED: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = measure(Path::new("/nowhere/at/all")).expect_err("it is not there");
        assert!(format!("{error:#}").contains("/nowhere/at/all"), "{error:#}");
    }

    #[test]
    fn syncs_are_counted() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rate = measure(folder.path()).expect("it can be written to");
        assert!(rate.syncs_per_second > 0.0 && rate.sync_us_p50 <= rate.sync_us_p99, "{rate:?}");
    }
}
