//! Notices panics, which tokio keeps inside of tasks.

use std::cell::RefCell;
use std::sync::Once;
use tollgate::sim::clock;

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes panics on threads that simulate, from now on.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if clock::is_active() {
                PANIC.with_borrow_mut(|first| {
                    first.get_or_insert_with(|| panic.to_string());
                });
            } else {
                others(panic);
            }
        }));
    });
}

/// Takes the first panic since the last call.
pub fn take() -> Option<String> {
    PANIC.take()
}
