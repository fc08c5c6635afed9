//! Generation of inputs by mutating seeds.

/// Number of times that a test calls its decoder when it is not run by libFuzzer.
const ITERATIONS: usize = 3_000;

/// Inputs of this length or more are not extended by mutations.
const MAX_LEN: usize = 64 * 1024;

/// Input of a decoder.
#[derive(Debug, Clone)]
pub struct Input {
    pub bytes: Vec<u8>,
    /// Selects among the ways in which a test can decode the bytes.
    pub choice: u8,
}

/// Source of random bytes. Each test has to call `bolero::check!()` itself, since the macro names
/// the target after the test.
pub type Engine =
    bolero::TestTarget<bolero::ByteSliceGenerator, bolero::DefaultEngine, bolero::BorrowedInput>;

/// Calls `target` with all seeds, with mutated seeds and with random bytes.
pub fn fuzz(engine: Engine, seeds: &[Input], target: impl Fn(Input) + std::panic::RefUnwindSafe) {
    for seed in seeds {
        target(seed.clone());
    }
    engine
        .with_iterations(ITERATIONS)
        .for_each(|bytes| target(mutated(seeds, bytes)));
}

/// Makes an input from random bytes.
///
/// The first byte selects a seed, and the bytes after the second are edits of that seed. If the
/// first byte selects no seed, the second byte is the input's choice and the rest its bytes.
fn mutated(seeds: &[Input], bytes: &[u8]) -> Input {
    let [index, choice, edits @ ..] = bytes else {
        return Input {
            bytes: bytes.to_vec(),
            choice: 0,
        };
    };
    let Some(seed) = seeds.get(usize::from(*index) % (seeds.len() + 1)) else {
        return Input {
            bytes: edits.to_vec(),
            choice: *choice,
        };
    };
    let mut input = seed.clone();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]]));
        apply(&mut input.bytes, at, edit[2], edit[3]);
    }
    input
}

fn apply(bytes: &mut Vec<u8>, at: usize, operation: u8, value: u8) {
    let at = at % (bytes.len() + 1);
    let end = bytes.len().min(at + usize::from(value));
    match operation % 6 {
        0 if at < bytes.len() => bytes[at] = value,
        1 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
        2 => bytes.insert(at, value),
        3 => drop(bytes.drain(at..end)),
        // Repeats a piece, which can duplicate keys.
        4 if bytes.len() < MAX_LEN => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => nest(bytes, at, value),
    }
}

/// Inserts opening brackets of JSON, or array markers of MessagePack, to nest what follows.
fn nest(bytes: &mut Vec<u8>, at: usize, depth: u8) {
    if bytes.len() >= MAX_LEN {
        return;
    }
    let bracket = if depth.is_multiple_of(2) { b'[' } else { 0x91 };
    bytes.splice(at..at, std::iter::repeat_n(bracket, usize::from(depth)));
}
