//! Whether this process takes ever more memory or file descriptors.

use crate::Failure;
use std::fmt;

/// Samples over the whole run.
#[derive(Debug, Default)]
pub(crate) struct Resources(Vec<Sample>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    rss_kib: usize,
    descriptors: usize,
}

/// Growth that is not held against the run: the allocator's and the runtime's own.
const MEMORY_ALLOWANCE_KIB: usize = 8 * 1024;

/// Connections that come up while others are still closing.
const DESCRIPTOR_ALLOWANCE: usize = 16;

impl Resources {
    pub(crate) fn sample(&mut self) -> Result<Sample, Failure> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss = rss.and_then(|rss| rss.trim().strip_suffix(" kB"));
        let sample = Sample {
            rss_kib: rss.ok_or("no VmRSS")?.trim().parse()?,
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
        };
        self.0.push(sample);
        Ok(sample)
    }

    /// Compares the last quarter with the second.
    pub(crate) fn judge(&self) -> Result<(), Failure> {
        let quarter = self.0.len() / 4;
        let (early, late) = (&self.0[quarter..2 * quarter], &self.0[3 * quarter..]);
        let memory = [early, late].map(|samples| median(samples, |sample| sample.rss_kib));
        let descriptors = [early, late].map(|samples| median(samples, |sample| sample.descriptors));
        println!(
            "resident memory {} KiB in the second quarter, {} KiB in the last; {} and {} descriptors",
            memory[0], memory[1], descriptors[0], descriptors[1]
        );
        if memory[1] > memory[0] + memory[0] / 10 + MEMORY_ALLOWANCE_KIB {
            return Err("memory grows".into());
        }
        if descriptors[1] > descriptors[0] + DESCRIPTOR_ALLOWANCE {
            return Err("descriptors are left behind".into());
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
