//! Checks that memory and file descriptors of this process do not grow.

use crate::Failure;
use std::fmt;

/// Samples over the run.
#[derive(Debug, Default)]
pub(crate) struct Resources(Vec<Sample>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    rss_kib: usize,
    descriptors: usize,
}

/// Accepted growth in KiB, for the allocator and the runtime.
const MEMORY_ALLOWANCE_KIB: usize = 8 * 1024;

/// Accepted growth in descriptors, for connections that open while others are closing.
const DESCRIPTOR_ALLOWANCE: usize = 16;

impl Resources {
    pub(crate) fn sample(&mut self) -> Result<Sample, Failure> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rss| rss.trim().strip_suffix(" kB"));
        let sample = Sample {
            rss_kib: rss.ok_or("no VmRSS in /proc/self/status")?.trim().parse()?,
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
        };
        self.0.push(sample);
        Ok(sample)
    }

    /// Fails if the medians of the last quarter exceed those of the second quarter by too much.
    pub(crate) fn check_growth(&self) -> Result<(), Failure> {
        let quarter = self.0.len() / 4;
        let (early, late) = (&self.0[quarter..2 * quarter], &self.0[3 * quarter..]);
        let memory = [early, late].map(|samples| median(samples, |sample| sample.rss_kib));
        let descriptors = [early, late].map(|samples| median(samples, |sample| sample.descriptors));
        println!(
            "resident memory {} KiB in the second quarter, {} KiB in the last; {} and {} descriptors",
            memory[0], memory[1], descriptors[0], descriptors[1]
        );
        if memory[1] > memory[0] + memory[0] / 10 + MEMORY_ALLOWANCE_KIB {
            return Err("resident memory grew during the run".into());
        }
        if descriptors[1] > descriptors[0] + DESCRIPTOR_ALLOWANCE {
            return Err("the number of file descriptors grew during the run".into());
        }
        Ok(())
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> usize) -> usize {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} KiB, {} descriptors", self.rss_kib, self.descriptors)
    }
}
