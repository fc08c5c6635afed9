//! A buffer for large bodies, which are kept in a temporary file beyond a threshold.
//!
//! The file is read when the body is asked for; it is not mapped, which would need code that the
//! compiler cannot check.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

/// Configuration of a [`LargeBodyBuffer`].
#[derive(Debug, Clone)]
pub struct LargeBodyBufferConfig {
    /// Size in bytes beyond which a body is kept in a file.
    pub mmap_threshold: usize,
    /// Largest body in bytes.
    pub max_body_size: usize,
    /// Folder of the file; `None` for that of the system.
    pub temp_dir: Option<PathBuf>,
}

impl Default for LargeBodyBufferConfig {
    fn default() -> Self {
        Self {
            mmap_threshold: 1024 * 1024,
            max_body_size: 100 * 1024 * 1024,
            temp_dir: None,
        }
    }
}

/// A body that is written in chunks.
#[derive(Default)]
pub struct LargeBodyBuffer {
    config: LargeBodyBufferConfig,
    /// The whole body, or what was read of the file.
    memory: Vec<u8>,
    file: Option<File>,
    len: usize,
}

impl LargeBodyBuffer {
    /// Creates an empty buffer with the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates an empty buffer.
    pub fn with_config(config: LargeBodyBufferConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    /// Returns the configuration.
    pub fn config(&self) -> &LargeBodyBufferConfig {
        &self.config
    }

    /// Returns the size of the body in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the body is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether the body is kept in a file.
    pub fn is_mmap(&self) -> bool {
        self.file.is_some()
    }

    /// Appends a chunk.
    ///
    /// # Errors
    ///
    /// One of kind [`OutOfMemory`](io::ErrorKind::OutOfMemory) if the body would be larger than
    /// [`LargeBodyBufferConfig::max_body_size`], and those of the file.
    pub fn write_chunk(&mut self, data: &[u8]) -> io::Result<()> {
        let len = self.len.saturating_add(data.len());
        if len > self.config.max_body_size {
            let limit = self.config.max_body_size;
            let fault = format!("the body exceeds the limit of {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, fault));
        }
        if self.file.is_none() && len > self.config.mmap_threshold {
            let mut file = self.create_file()?;
            file.write_all(&self.memory)?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => {
                // What was read may have been changed since.
                if self.memory.len() == self.len {
                    file.seek(SeekFrom::Start(0))?;
                    file.write_all(&self.memory)?;
                }
                file.seek(SeekFrom::End(0))?;
                file.write_all(data)?;
                self.memory = Vec::new();
            }
            None => self.memory.extend_from_slice(data),
        }
        self.len = len;
        Ok(())
    }

    /// Returns the body.
    ///
    /// # Errors
    ///
    /// Those of reading the file.
    pub fn as_slice(&mut self) -> io::Result<&[u8]> {
        self.read_all()?;
        Ok(&self.memory)
    }

    /// Returns the body, which may be changed.
    ///
    /// # Errors
    ///
    /// Those of reading the file.
    pub fn as_mut_slice(&mut self) -> io::Result<&mut [u8]> {
        self.read_all()?;
        Ok(&mut self.memory)
    }

    /// Removes everything, and the file.
    pub fn clear(&mut self) {
        self.memory = Vec::new();
        self.file = None;
        self.len = 0;
    }

    /// Returns the body.
    ///
    /// # Errors
    ///
    /// Those of reading the file.
    pub fn into_vec(mut self) -> io::Result<Vec<u8>> {
        self.read_all()?;
        Ok(self.memory)
    }

    fn create_file(&self) -> io::Result<File> {
        match &self.config.temp_dir {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        }
    }

    /// Reads the file, unless what was read is still there.
    fn read_all(&mut self) -> io::Result<()> {
        if self.memory.len() == self.len {
            return Ok(());
        }
        if let Some(file) = &mut self.file {
            let mut memory = Vec::with_capacity(self.len);
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut memory)?;
            self.memory = memory;
        }
        Ok(())
    }
}

impl fmt::Debug for LargeBodyBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeBodyBuffer")
            .field("len", &self.len)
            .field("is_in_file", &self.is_mmap())
            .finish_non_exhaustive()
    }
}
