use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// A socket file that goes away with this value.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that a file that somebody else put in its place stays.
    identity: (u64, u64),
    owner: u32,
}

impl SocketFile {
    /// Listens at `path`. The file has `mode`, and never a wider one before.
    ///
    /// `backlog` connections may wait to be accepted.
    pub(crate) async fn listen(
        path: &Path,
        mode: u32,
        backlog: u32,
    ) -> io::Result<(UnixListener, Self)> {
        // Held until the socket is there, so that of two servers that find the same stale file one does
        // not remove the other's new one.
        let _folder = lock_folder(path)?;
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream()?;
        // The kernel gives the file the mode of the unbound socket, less the process's umask.
        File::from(socket.as_fd().try_clone_to_owned()?)
            .set_permissions(Permissions::from_mode(mode))?;
        socket.bind(path)?;
        let file = fs::symlink_metadata(path)?;
        let owned = Self {
            path: path.to_owned(),
            identity: (file.dev(), file.ino()),
            owner: file.uid(),
        };
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok((socket.listen(backlog)?, owned))
    }

    /// The user that made it, which is the one that this process runs as.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }
}

fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| (file.dev(), file.ino()) == self.identity);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file stays");
        }
    }
}

/// Removes a socket file that nobody listens at. Anything else at `path` is left alone.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in the way",
        ));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        // A listener with a full backlog says that it would block: it is alive too.
        _ => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        )),
    }
}
