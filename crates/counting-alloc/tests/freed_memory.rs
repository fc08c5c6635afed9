//! Memory of large blocks goes back to the system when they are freed.

use tollgate_counting_alloc::CountingAlloc;

#[global_allocator]
static ALLOCATOR: CountingAlloc<{ 64 * 1024 }> = CountingAlloc;

const MIB: usize = 1024 * 1024;

fn resident_memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statistics of this process");
    let pages = statm.split(' ').nth(1).expect("a field").parse::<usize>();
    pages.expect("a number") * 4096
}

/// One test, as the memory of the whole process is looked at.
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

    // Some connections hold their buffers for long, while the buffers beside them are freed.
    let before = resident_memory();
    let mut blocks: Vec<Vec<u8>> = (0..1_000).map(|_| vec![1; 100 * 1024]).collect();
    let mut numbers = 0..;
    blocks.retain(|_| numbers.next().is_some_and(|number| number % 10 == 0));
    let after = resident_memory();
    assert_eq!(blocks.len(), 100);
    assert!(after < before + 20 * MIB, "{before} {after}");
}
