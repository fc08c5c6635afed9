//! State of the other threads of this process.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// Waits until every other thread sleeps.
pub fn wait_until_others_sleep() {
    while !others_sleep() {
        sleep(Duration::from_millis(1));
    }
}

fn others_sleep() -> bool {
    let own = fs::read_link("/proc/thread-self").unwrap();
    let threads = fs::read_dir("/proc/self/task").unwrap();
    threads
        .filter_map(|thread| Some(thread.ok()?.path()))
        .filter(|thread| thread.file_name() != own.file_name())
        // A thread that ends meanwhile has no state.
        .filter_map(|thread| fs::read_to_string(thread.join("stat")).ok())
        .all(|stat| state_in(&stat) == Some(SLEEPING))
}

const SLEEPING: char = 'S';

fn state_in(stat: &str) -> Option<char> {
    // The name before the state may contain parentheses.
    stat.rsplit_once(") ")?.1.chars().next()
}
