//! Socket files of listeners.

use crate::log::{NO_PEER, log_line};
use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd;
#[cfg(target_os = "linux")]
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::{sleep, timeout};

/// Time limit for locking the folder of a socket file. Servers hold the lock for far less.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval between attempts to lock it.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(10);

/// A socket file that is removed when this value is dropped.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that another file that has taken its place is not removed.
    identity: (u64, u64),
    owner: u32,
}

/// Treatment of a file that lies at the path of a new socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Is replaced if it is a socket that no process listens at. Otherwise it is an error.
    Respected,
    /// Is replaced at one stroke, whatever it is, so that there is a socket at every moment.
    TakenOver,
}

/// Identifies a socket file, beyond the life of its listener.
#[derive(Debug, Clone)]
pub(crate) struct FileIdentity {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl FileIdentity {
    /// Returns whether another socket has taken the place of this one.
    pub(crate) fn is_taken_over(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| {
            file.file_type().is_socket() && (file.dev(), file.ino()) != self.device_and_inode
        })
    }
}

impl SocketFile {
    /// Listens at `path`. The file has the mode `mode`, and at no time a more permissive one.
    ///
    /// The kernel keeps up to `backlog` connections until they are accepted.
    pub(crate) async fn listen(
        path: &Path,
        mode: u32,
        backlog: u32,
        existing: Existing,
    ) -> io::Result<(UnixListener, Self)> {
        // Held until the socket is bound: of two servers that find the same stale file, one must
        // not remove the other's new socket.
        let _folder = lock_folder(path).await?;
        let bound_at = match existing {
            Existing::Respected => {
                remove_stale(path).await?;
                path.to_owned()
            }
            Existing::TakenOver => path.with_file_name(format!(".{:08x}", fastrand::u32(..))),
        };
        let socket = UnixSocket::new_stream()?;
        // The kernel creates the file with the mode of the unbound socket, reduced by the process's
        // umask.
        File::from(socket.as_fd().try_clone_to_owned()?)
            .set_permissions(Permissions::from_mode(mode))?;
        socket.bind(&bound_at)?;
        let bound = BoundFile::open(&bound_at)?;
        let file = bound.metadata()?;
        let owned = Self {
            path: path.to_owned(),
            identity: (file.dev(), file.ino()),
            owner: file.uid(),
        };
        if file.mode() & PERMISSION_BITS != mode {
            // The umask has removed bits that are wanted.
            bound.set_mode(mode)?;
        }
        let listener = socket.listen(backlog)?;
        if existing == Existing::TakenOver {
            // Only now, when the new socket takes connections.
            fs::rename(&bound_at, path).inspect_err(|_| {
                let _ = fs::remove_file(&bound_at);
            })?;
        }
        Ok((listener, owned))
    }

    /// Returns what tells whether another socket takes the place of this one.
    pub(crate) fn identity(&self) -> FileIdentity {
        FileIdentity {
            path: self.path.clone(),
            device_and_inode: self.identity,
        }
    }

    /// Returns the owner of the file, which is the user that this process runs as.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }
}

/// Bits of a file's mode that say who may do what.
const PERMISSION_BITS: u32 = 0o7777;

/// A socket file that was just created. It is opened once: a link that another process puts in its
/// place afterwards is not followed.
#[cfg(target_os = "linux")]
struct BoundFile(File);

#[cfg(target_os = "linux")]
impl BoundFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_NOFOLLOW)
            .open(path)?;
        if !file.metadata()?.file_type().is_socket() {
            return Err(io::Error::other(
                "another file has taken the place of the socket; check who may write to the folder",
            ));
        }
        Ok(Self(file))
    }

    fn metadata(&self) -> io::Result<fs::Metadata> {
        self.0.metadata()
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

/// The path of a socket file that was just created. Other systems cannot open a socket file.
#[cfg(not(target_os = "linux"))]
struct BoundFile<'a>(&'a Path);

#[cfg(not(target_os = "linux"))]
impl<'a> BoundFile<'a> {
    fn open(path: &'a Path) -> io::Result<Self> {
        Ok(Self(path))
    }

    fn metadata(&self) -> io::Result<fs::Metadata> {
        fs::symlink_metadata(self.0)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.0, Permissions::from_mode(mode))
    }
}

/// Locks the folder of a socket file until the returned value is dropped.
///
/// Any process that can read the folder can hold its lock for any time, so this waits only for as
/// long as other servers need, and without blocking the thread.
async fn lock_folder(path: &Path) -> io::Result<File> {
    let path = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(path)?;
    let locking = async {
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => sleep(LOCK_RETRY_DELAY).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    match timeout(LOCK_TIMEOUT, locking).await {
        Ok(locked) => locked.map(|()| folder),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!(
                "another process holds a lock on the folder {}",
                path.display()
            ),
        )),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            let path = self.path.display();
            log_line!(warn, NO_PEER, { path, error }, "cannot remove the socket file");
        }
    }
}

/// Removes a socket file that no process listens at. Any other file at `path` is an error.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path exists and is not a socket",
        ));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // A listener with a full backlog reports that connecting would block, so it is alive too.
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}
