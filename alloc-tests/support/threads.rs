//! What the other threads of this process do.

use std::collections::HashMap;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

pub type Id = String;

pub fn own() -> Id {
    let own = fs::read_link("/proc/thread-self").unwrap();
    own.file_name().unwrap().to_str().unwrap().to_owned()
}

/// Waits until every other thread waits for something.
pub fn until_others_rest() {
    until(|others| others.values().all(|state| *state == 'S'));
}

/// Waits until the states of the other threads are as expected.
pub fn until(is_so: impl Fn(&HashMap<Id, char>) -> bool) {
    while !is_so(&states_of_others()) {
        sleep(Duration::from_millis(1));
    }
}

fn states_of_others() -> HashMap<Id, char> {
    let own = own();
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let ids = threads.filter_map(|thread| thread.ok()?.file_name().into_string().ok());
    ids.filter(|id| *id != own)
        // One that ends meanwhile has no state.
        .filter_map(|id| state_of(&id).map(|state| (id, state)))
        .collect()
}

fn state_of(thread: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    // The name before it may hold anything, parentheses too.
    stat.rsplit_once(") ")?.1.chars().next()
}
