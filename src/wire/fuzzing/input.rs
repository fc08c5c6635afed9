/// What a decoder is given.
#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    /// Chooses between what can be done with the bytes.
    pub(super) choice: u8,
}

/// How often a test calls its decoder when libFuzzer does not run it.
const ITERATIONS: usize = 3_000;

/// What makes the inputs. `bolero::check!()` gives it, in the test itself, from which it takes its name.
pub(super) type Engine =
    bolero::TestTarget<bolero::ByteSliceGenerator, bolero::DefaultEngine, bolero::BorrowedInput>;

/// Calls `target` with seeds that are damaged in every way, and with plain noise.
pub(super) fn fuzz(
    engine: Engine,
    seeds: &[Input],
    target: impl Fn(Input) + std::panic::RefUnwindSafe,
) {
    for seed in seeds {
        target(seed.clone());
    }
    engine
        .with_iterations(ITERATIONS)
        .for_each(|bytes| target(damaged(seeds, bytes)));
}

/// Takes the first bytes for the choice of a seed, the rest for edits of it; or, if no seed is meant, the
/// rest as it is.
fn damaged(seeds: &[Input], bytes: &[u8]) -> Input {
    let [place, choice, edits @ ..] = bytes else {
        return Input {
            bytes: bytes.to_vec(),
            choice: 0,
        };
    };
    let Some(seed) = seeds.get(usize::from(*place) % (seeds.len() + 1)) else {
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
        // Repeats a piece, which gives keys twice.
        4 if bytes.len() < MAX_LEN => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => nest(bytes, at, value),
    }
}

const MAX_LEN: usize = 64 * 1024;

/// Puts opening brackets, of either encoding, in front of a value.
fn nest(bytes: &mut Vec<u8>, at: usize, depth: u8) {
    if bytes.len() >= MAX_LEN {
        return;
    }
    let bracket = if depth.is_multiple_of(2) { b'[' } else { 0x91 };
    bytes.splice(at..at, std::iter::repeat_n(bracket, usize::from(depth)));
}
