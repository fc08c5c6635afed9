//! Processes that the system keeps from sharing memory. Their connections stay on the socket.

use crate::common::{
    AgentProcess, config, echoed, expect_decides, request, run_agent_process, serve,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::ffi::c_long;
use std::fs::File;
use std::process::Command;
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, Encoding, SharedMemory, stats::SharedMemoryRefusal,
};

/// Environment variable that names what a process is kept from.
const FAULT: &str = "TOLLGATE_TEST_FAULT";

/// Environment variable with the socket path of the agent that a proxy's process asks.
const SOCKET: &str = "TOLLGATE_TEST_PROXY_SOCKET";

/// Begins the line that a proxy's process prints.
const REPORT: &str = "reported: ";

fn on() -> AgentPoolConfig {
    config(Encoding::MessagePack).shared_memory(SharedMemory::Adaptive)
}

/// Keeps this thread, and those that it starts, from what the environment names. Returns files that
/// have to stay open.
fn suffer() -> Vec<File> {
    match &*std::env::var(FAULT).unwrap() {
        "memfd_create" => forbid(libc::SYS_memfd_create),
        "sendmsg" => forbid(libc::SYS_sendmsg),
        "recvmsg" => forbid(libc::SYS_recvmsg),
        "large files" => limit(Resource::Fsize, 64 * 1024),
        "more than 1 descriptor" => return leave_descriptors(1),
        "more than 2 descriptors" => return leave_descriptors(2),
        other => panic!("no fault is called {other}"),
    }
    Vec::new()
}

fn limit(resource: Resource, most: u64) {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit).unwrap();
}

/// Opens files until this many descriptors are left.
fn leave_descriptors(count: usize) -> Vec<File> {
    limit(Resource::Nofile, 100);
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.truncate(files.len() - count);
    files
}

/// Lets a system call fail with `EPERM`, as a sandbox does.
#[allow(unsafe_code, reason = "no safe interface installs a filter")]
fn forbid(call: c_long) {
    let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let errno = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EPERM).unwrap();
    let code = |code: u32| u16::try_from(code).unwrap();
    let mut filter = [
        // The number of the system call is at offset 0.
        statement(code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), 0, 0, 0),
        statement(
            code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K),
            0,
            1,
            u32::try_from(call).unwrap(),
        ),
        statement(code(libc::BPF_RET | libc::BPF_K), 0, 0, errno),
        statement(
            code(libc::BPF_RET | libc::BPF_K),
            0,
            0,
            libc::SECCOMP_RET_ALLOW,
        ),
    ];
    let program = libc::sock_fprog {
        len: filter.len().try_into().unwrap(),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which is valid until the call returns.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    };
    assert!(installed, "{}", std::io::Error::last_os_error());
}

/// Runs the proxy of the test below.
#[tokio::test]
#[ignore = "the test below runs it in a separate process"]
async fn suffering_proxy() {
    let Ok(socket) = std::env::var(SOCKET) else {
        return;
    };
    let _files = suffer();
    let pool = AgentPool::with_config(on());
    let agent = AgentConfig::new("agent", socket).require_connection();
    let agent = pool.add(agent).await.unwrap();
    expect_decides(&pool).await;
    let stats = agent.stats().shared_memory;
    println!("{REPORT}{:?} {}", stats.refusal, stats.failed);
}

/// The proxy falls back, counts that, and says why.
#[tokio::test]
async fn proxy_stays_on_its_socket() {
    let agent = serve().await;
    for (fault, refusal) in [
        ("memfd_create", SharedMemoryRefusal::System),
        ("large files", SharedMemoryRefusal::System),
        ("sendmsg", SharedMemoryRefusal::NotSent),
        ("recvmsg", SharedMemoryRefusal::NoDescriptor),
        ("more than 1 descriptor", SharedMemoryRefusal::OpenFiles),
        ("more than 2 descriptors", SharedMemoryRefusal::OpenFiles),
    ] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "shared_memory_faults::suffering_proxy",
                "--exact",
                "--ignored",
            ])
            .arg("--nocapture")
            .env(SOCKET, &agent.path)
            .env(FAULT, fault);
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = ended.await.unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = format!("{REPORT}{:?} 1", Some(refusal));
        assert!(
            output.status.success() && printed.contains(&expected),
            "{fault}: {printed} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Runs the agent of the test below.
#[test]
#[ignore = "the test below runs it in a separate process"]
fn suffering_agent() {
    if std::env::var_os(FAULT).is_some() {
        let _files = suffer();
        run_agent_process();
    }
}

/// The agent falls back, and the proxy counts that.
#[tokio::test]
async fn agent_stays_on_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    for fault in ["memfd_create", "large files", "sendmsg", "recvmsg"] {
        let socket = folder.path().join(fault);
        let test = "shared_memory_faults::suffering_agent";
        let (_process, _) = AgentProcess::start_as(test, &[(FAULT, fault)], &socket).await;
        let pool = AgentPool::with_config(on());
        let agent = AgentConfig::new("agent", socket.to_str().unwrap()).require_connection();
        let agent = pool.add(agent).await.unwrap();
        let answer = agent.send("c", &request("c", "/")).await.unwrap();
        assert_eq!(echoed(answer), "/", "{fault}");
        let stats = agent.stats().shared_memory;
        let seen = (stats.refusal, stats.failed);
        assert_eq!(seen, (Some(SharedMemoryRefusal::ByPeer), 1), "{fault}");
    }
}
