//! A running Envoy.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Time in which Envoy has to listen, on a machine that does much else.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// An Envoy with one listener for each filter. It ends when this is dropped.
pub(crate) struct Envoy {
    process: Child,
    ports: Vec<u16>,
    _folder: tempfile::TempDir,
}

/// The modes of ext_proc, as `processing_mode` names them.
pub(crate) const MODES: [&str; 5] = [
    "NONE",
    "STREAMED",
    "BUFFERED",
    "BUFFERED_PARTIAL",
    "FULL_DUPLEX_STREAMED",
];

/// Returns the ext_proc filter for a mode of both bodies, with more settings.
pub(crate) fn ext_proc(mode: &str, more: &str) -> String {
    let trailers = if mode == "NONE" { "SKIP" } else { "SEND" };
    format!(
        r#"
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              grpc_service: {{envoy_grpc: {{cluster_name: agent}}}}
              message_timeout: 1s
              max_message_timeout: 10s
              processing_mode:
                request_header_mode: SEND
                response_header_mode: SEND
                request_body_mode: {mode}
                response_body_mode: {mode}
                request_trailer_mode: {trailers}
                response_trailer_mode: {trailers}
              request_attributes: [source.address, source.port, request.id, request.protocol, request.time, xds.cluster_name]
              metadata_options: {{receiving_namespaces: {{untyped: [tollgate, tollgate.route]}}}}
              {more}
"#
    )
}

impl Envoy {
    /// Starts an Envoy with a listener for each of the filters, in front of an upstream, that asks
    /// the agent at an address or at a path.
    pub(crate) async fn start(filters: &[String], agent: &str, upstream: SocketAddr) -> Self {
        Self::before("http2_protocol_options", filters, agent, upstream).await
    }

    /// As [`Envoy::start`], before an upstream that speaks a version of HTTP.
    pub(crate) async fn before(
        protocol: &str,
        filters: &[String],
        agent: &str,
        upstream: SocketAddr,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports(filters.len());
        let mut listeners = String::new();
        for (filter, port) in filters.iter().zip(&ports) {
            listeners.push_str(&listener(filter, *port));
        }
        let file = folder.path().join("envoy.yaml");
        std::fs::write(&file, bootstrap(&listeners, agent, upstream, protocol)).unwrap();
        let process = Command::new(binary())
            .args([
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
                "-l",
                "error",
                "-c",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let envoy = Self {
            process,
            ports,
            _folder: folder,
        };
        envoy.wait_until_ready().await;
        envoy
    }

    async fn wait_until_ready(&self) {
        let ready = async {
            for at in 0..self.ports.len() {
                while TcpStream::connect(self.address(at)).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
            }
        };
        timeout(START_TIMEOUT, ready)
            .await
            .expect("Envoy did not listen");
    }

    /// Returns the address of the listener with a filter, counted from 0.
    pub(crate) fn address(&self, filter: usize) -> SocketAddr {
        ([127, 0, 0, 1], self.ports[filter]).into()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the binary: that of the environment variable `ENVOY`, or the one that `scripts/setup`
/// installs.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = target.parent().unwrap().join("envoy/envoy/_bin/envoy");
    assert!(
        path.exists(),
        "{} is missing; run scripts/setup",
        path.display()
    );
    path
}

fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets: Vec<_> = (0..count).map(bind).collect();
    sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap().port())
        .collect()
}

fn listener(filter: &str, port: u16) -> String {
    format!(
        r#"
  - name: listener_{port}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          use_remote_address: true
          http_protocol_options: {{enable_trailers: true}}
          upgrade_configs: [{{upgrade_type: websocket}}]
          route_config:
            response_headers_to_add:
            - header: {{key: x-audit, value: "%DYNAMIC_METADATA(tollgate:rule_ids)%"}}
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: upstream}}
          http_filters:{filter}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#
    )
}

fn bootstrap(listeners: &str, agent: &str, upstream: SocketAddr, protocol: &str) -> String {
    let agent = match agent.parse::<SocketAddr>() {
        Ok(at) => socket(at),
        Err(_) => format!("{{pipe: {{path: \"{agent}\"}}}}"),
    };
    let mut text = format!("static_resources:\n  listeners:{listeners}\n  clusters:\n");
    let upstream = socket(upstream);
    for (name, address, protocol) in [
        ("agent", agent, "http2_protocol_options"),
        ("upstream", upstream, protocol),
    ] {
        let _ = write!(
            text,
            r#"
  - name: {name}
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: {name}
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {address}}}}}]}}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{{protocol}: {{}}}}
"#
        );
    }
    text
}

fn socket(at: SocketAddr) -> String {
    format!(
        "{{socket_address: {{address: {}, port_value: {}}}}}",
        at.ip(),
        at.port()
    )
}
