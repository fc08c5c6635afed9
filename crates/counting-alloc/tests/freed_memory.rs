//! Memory of large blocks goes back to the system when they are freed.

use tollgate_counting_alloc::CountingAlloc;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

const MIB: usize = 1024 * 1024;

fn resident_memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statistics of this process");
    let pages = statm.split(' ').nth(1).expect("a field").parse::<usize>();
    pages.expect("a number") * 4096
}

#[test]
fn memory_of_large_blocks_is_returned_at_once() {
    let before = resident_memory();
    let blocks: Vec<Vec<u8>> = (0..20).map(|_| vec![1; 15 * MIB]).collect();
    let held = resident_memory();
    assert!(held > before + 200 * MIB, "{before} {held}");
    // Freed on another thread, as the buffers of a connection may be.
    std::thread::spawn(move || drop(blocks))
        .join()
        .expect("the thread ends");
    let after = resident_memory();
    assert!(after < before + 40 * MIB, "{before} {after}");
}
