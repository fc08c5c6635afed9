//! The memory and file descriptors of processes.

use super::Failure;
use std::fmt;

/// Samples of a process over the run.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) name: String,
    pid: u32,
    pub(crate) samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) rss_kib: usize,
    pub(crate) descriptors: usize,
}

impl Resources {
    pub(crate) fn of(name: impl Into<String>, pid: u32) -> Self {
        Self {
            name: name.into(),
            pid,
            samples: Vec::new(),
        }
    }

    pub(crate) fn sample(&mut self) -> Result<Sample, Failure> {
        let sample = Sample {
            rss_kib: status_kib(self.pid, "VmRSS:")?,
            descriptors: std::fs::read_dir(format!("/proc/{}/fd", self.pid))?.count(),
        };
        self.samples.push(sample);
        Ok(sample)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB, {} descriptors", self.rss_kib, self.descriptors)
    }
}

/// Returns a size in the status of a process, in KiB.
pub(crate) fn status_kib(pid: u32, name: &str) -> Result<usize, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let size = status.lines().find_map(|line| line.strip_prefix(name));
    let size = size.and_then(|size| size.trim().strip_suffix(" kB"));
    let size = size.ok_or_else(|| format!("no {name} in the status of process {pid}"))?;
    Ok(size.trim().parse()?)
}
