use super::*;
use crate::transport::shared::ring::{Reader, Writer};
use rustix::fs::MemfdFlags;
use std::fs::File;
use std::os::unix::net::UnixStream;

const BYTES: usize = 16 * 1024;

fn memory_file(flags: MemfdFlags, len: usize, seals: SealFlags) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", flags | MemfdFlags::ALLOW_SEALING)
        .expect("memory files are supported");
    ftruncate(&file, len as u64).expect("it may grow");
    fcntl_add_seals(&file, seals).expect("it may be sealed");
    file
}

fn reason(file: impl Into<OwnedFd>) -> &'static str {
    match PeerRegion::map(&file.into(), BYTES) {
        Err(NotMapped::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

/// Frames of all sizes arrive through real memory, although they wrap around at its end.
#[test]
fn carries_bytes_around_the_end() {
    let (own, mut ring, file) = create(BYTES).unwrap();
    let (back, _, back_file) = create(BYTES).unwrap();
    let incoming = PeerRegion::map(&file, BYTES).unwrap();
    let outgoing = PeerRegion::map(&back_file, BYTES).unwrap();
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    let mut received = BytesMut::new();
    for len in (1..5000).step_by(7) {
        let sent: Vec<u8> = (0..len).map(|index| (index * 7 + len) as u8).collect();
        assert_eq!(writer.write(&own, &mut ring, &outgoing, &sent), Ok(len));
        writer.publish(&own, &outgoing);
        received.clear();
        received.reserve(len);
        let taken = reader.take(&back, &incoming, &mut received, len).unwrap();
        assert_eq!((taken.bytes, &received[..]), (len, &sent[..]));
    }
}

/// Whatever is not a sealed memory file of the agreed size could fault when it is read.
#[test]
fn refuses_other_descriptors() {
    let len = CONTROL + BYTES;
    let cloexec = MemfdFlags::CLOEXEC;
    let (read, _write) = UnixStream::pair().unwrap();
    assert_eq!(reason(read), "it is no memory file");
    assert_eq!(
        reason(File::open("/dev/zero").unwrap()),
        "it is no memory file"
    );
    let temporary = tempfile::tempfile().unwrap();
    temporary.set_len(len as u64).unwrap();
    // A file on a disk has no seals, and one on a tmpfs has not those.
    assert!(["it is no memory file", "its size is not sealed"].contains(&reason(temporary)));
    for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::GROW] {
        assert_eq!(
            reason(memory_file(cloexec, len, seals)),
            "its size is not sealed"
        );
    }
    for other in [0, BYTES, len - 1, len + 1, 2 * len] {
        let file = memory_file(cloexec, other, FIXED_SIZE);
        assert_eq!(reason(file), "it has another size than agreed");
    }
}

/// Huge pages can be missing when they are first touched.
#[test]
fn refuses_huge_pages() {
    // Creating it fails where the system has no huge pages, and nothing is left to refuse then.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let Ok(file) = rustix::fs::memfd_create("test", flags) else {
        return;
    };
    let huge = 2 * 1024 * 1024;
    if ftruncate(&file, huge).is_err() || fcntl_add_seals(&file, FIXED_SIZE).is_err() {
        return;
    }
    assert!(matches!(
        PeerRegion::map(&file, huge as usize - CONTROL),
        Err(NotMapped::Invalid("its pages have another size"))
    ));
}

/// The peer cannot write what it was given, nor change its size.
#[test]
fn peer_cannot_write() {
    let (_own, _ring, file) = create(BYTES).unwrap();
    let written = rustix::io::pwrite(&file, b"lie", 0);
    assert_eq!(written, Err(Errno::PERM));
    assert_eq!(ftruncate(&file, 0), Err(Errno::PERM));
    let len = CONTROL + BYTES;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping overlaps no other memory; it is refused anyway.
    let mapped = unsafe { mmap(null_mut(), len, access, MapFlags::SHARED, &file, 0) };
    assert_eq!(mapped.map(|_| ()), Err(Errno::PERM));
}
