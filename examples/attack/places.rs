//! The addresses of a run, which every process of it knows.

use crate::Failure;
use crate::common::addresses::{Address, Addresses};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct Places {
    /// Directory of logs, and of the sockets of hostile agents.
    pub(crate) directory: PathBuf,
    /// Endpoints of the server under attack, in the order of [`Places::LINKS`].
    pub(crate) server: [Address; 3],
    pub(crate) good_agent: Address,
    /// Endpoint of the pool under attack for agents that dial.
    pub(crate) pool: Address,
}

impl Places {
    /// Links of the server under attack. Each is the name of an agent of the good proxy.
    pub(crate) const LINKS: [&str; 3] = ["unix", "tcp", "grpc"];

    pub(crate) const ARGUMENTS: usize = 6;

    pub(crate) fn new(directory: &Path) -> Self {
        let mut addresses = Addresses::new(directory);
        Self {
            directory: directory.to_owned(),
            server: [
                addresses.next_unix(),
                addresses.next_tcp(),
                addresses.next_tcp(),
            ],
            good_agent: addresses.next_unix(),
            pool: addresses.next_tcp(),
        }
    }

    pub(crate) fn to_arguments(&self) -> [String; Self::ARGUMENTS] {
        let [unix, tcp, grpc] = &self.server;
        [
            self.directory.display().to_string(),
            unix.to_string(),
            tcp.to_string(),
            grpc.to_string(),
            self.good_agent.to_string(),
            self.pool.to_string(),
        ]
    }

    pub(crate) fn parse(arguments: &[&str]) -> Result<Self, Failure> {
        let [directory, unix, tcp, grpc, good_agent, pool] = arguments else {
            return Err("too few addresses".into());
        };
        Ok(Self {
            directory: PathBuf::from(directory),
            server: [unix.parse()?, tcp.parse()?, grpc.parse()?],
            good_agent: good_agent.parse()?,
            pool: pool.parse()?,
        })
    }

    /// Returns the endpoints of the server under attack.
    pub(crate) fn endpoints(&self) -> [String; 3] {
        let [unix, tcp, grpc] = &self.server;
        [
            format!("unix:{unix}"),
            format!("tcp://{tcp}"),
            format!("grpc://{grpc}"),
        ]
    }

    /// Returns the socket of a hostile agent.
    pub(crate) fn hostile_agent(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.sock"))
    }
}
