//! Checks that memory and file descriptors of processes do not grow.

use crate::Failure;
use crate::common::resources::{Resources, Sample};

/// Accepted growth in KiB, for the allocator and the runtime.
const MEMORY_ALLOWANCE_KIB: usize = 8 * 1024;

/// Accepted growth in descriptors, for connections that open while others are closing.
const DESCRIPTOR_ALLOWANCE: usize = 16;

impl Resources {
    /// Returns the first sample, the one in the middle, and the last.
    pub(crate) fn course(&self) -> [Sample; 3] {
        let last = self.samples.len() - 1;
        [0, last / 2, last].map(|index| self.samples[index])
    }

    /// Fails if the medians of the last quarter exceed those of the second quarter by too much.
    pub(crate) fn check_growth(&self) -> Result<(), Failure> {
        let quarter = self.samples.len() / 4;
        let early = &self.samples[quarter..2 * quarter];
        let late = &self.samples[3 * quarter..];
        let memory = [early, late].map(|samples| median(samples, |sample| sample.rss_kib));
        let descriptors = [early, late].map(|samples| median(samples, |sample| sample.descriptors));
        if memory[1] > memory[0] + memory[0] / 10 + MEMORY_ALLOWANCE_KIB {
            return Err(format!(
                "{}: resident memory grew from {} to {} KiB",
                self.name, memory[0], memory[1]
            )
            .into());
        }
        if descriptors[1] > descriptors[0] + DESCRIPTOR_ALLOWANCE {
            return Err(format!(
                "{}: descriptors grew from {} to {}",
                self.name, descriptors[0], descriptors[1]
            )
            .into());
        }
        Ok(())
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> usize) -> usize {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
