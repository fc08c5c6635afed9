//! `tollgate config envoy`: a bootstrap with which Envoy asks an agent.

mod addresses;

use super::address::{Address, parse_address};
use crate::exit::UsageError;
use crate::output::print_line;
use addresses::{discovery, parse_agent, parse_listener, socket_address};
use std::fmt::{self, Display, Formatter, Write};
use std::path::{Path, PathBuf};
use tollgate_envoy::EnvoyEndpoint;

/// Options of `tollgate config envoy`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Endpoint of the agent: envoy://host:port, envoys://host:port or envoy+unix:///path
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_agent)]
    agent: EnvoyEndpoint,
    /// IP address and port that Envoy listens on
    #[arg(
        long, value_name = "ADDRESS", default_value = "127.0.0.1:10000",
        value_parser = parse_listener
    )]
    listen: Address,
    /// Address of the server that allowed requests go to
    #[arg(
        long, value_name = "ADDRESS", default_value = "127.0.0.1:8080",
        value_parser = parse_address
    )]
    upstream: Address,
    /// Form in which the agent sees the bodies of requests and responses
    #[arg(long, value_enum, default_value = "none")]
    body: BodyMode,
    /// Proxies in front of Envoy whose x-forwarded-for entries are trusted
    #[arg(long, value_name = "N", default_value_t = 0)]
    trusted_hops: u32,
    /// Let the agent set `host`, which chooses another route; the agent needs the option as well
    #[arg(long)]
    may_set_host: bool,
    /// Certificates of the authorities that Envoy trusts for envoys://, in PEM form
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Certificate that Envoy presents to the agent, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Name to request (SNI) and to expect in the agent's certificate [default: the host of the
    /// endpoint]
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
}

/// Form in which Envoy sends bodies to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BodyMode {
    /// Bodies are not sent
    None,
    /// Chunks are sent as they arrive, and go on as soon as they are judged
    Streamed,
    /// Each body is sent as a whole, up to 1 MiB
    Buffered,
    /// Chunks are sent as they arrive, and the agent may hold them until it has decided;
    /// recommended for agents that look at bodies
    Duplex,
}

impl BodyMode {
    fn mode(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Streamed => "STREAMED",
            Self::Buffered => "BUFFERED",
            Self::Duplex => "FULL_DUPLEX_STREAMED",
        }
    }

    /// Returns whether trailers are sent. Chunks before trailers do not say that the body ends.
    fn trailers(self) -> &'static str {
        match self {
            Self::None => "SKIP",
            Self::Streamed | Self::Buffered | Self::Duplex => "SEND",
        }
    }

    /// Says what stays unjudged.
    fn remarks(self) -> &'static [&'static str] {
        match self {
            Self::None => &[
                "The agent judges the heads of requests and responses. It does not see bodies,",
                "trailers and WebSocket frames: they pass unjudged. See --body.",
            ],
            Self::Streamed => &[
                "The agent judges heads, and each chunk of a body as it arrives. A chunk that it has",
                "allowed has gone on when it denies a later one: the upstream then sees the request",
                "end early, and the client a response that breaks off. Use --body duplex for agents",
                "that have to see more before they decide. The agent sees the end of bodies, but not",
                "the fields of trailers, which pass unjudged, and so do WebSocket frames.",
            ],
            Self::Buffered => &[
                "The agent judges heads, and each body as a whole. Nothing reaches the upstream",
                "before that. Envoy answers 413 if a request body exceeds its buffer, 1 MiB unless",
                "per_connection_buffer_limit_bytes says otherwise, and 500 if a response body does.",
                "The fields of trailers pass unjudged. WebSocket requests are refused: their bytes",
                "would be buffered without an end.",
            ],
            Self::Duplex => &[
                "The agent judges heads and chunks of bodies, and holds both as long as it has not",
                "decided: nothing reaches the upstream before that. The fields of trailers, and",
                "WebSocket frames, pass unjudged.",
            ],
        }
    }
}

/// Prints the bootstrap.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    args.check_tls()?;
    Ok(print_line(args.bootstrap()?.trim_end())?)
}

impl Args {
    fn check_tls(&self) -> Result<(), UsageError> {
        let is_tls = matches!(self.agent, EnvoyEndpoint::Tls(..));
        let options = [
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-server-name", self.tls_server_name.is_some()),
        ];
        if is_tls && self.tls_ca.is_none() {
            let missing = "envoys:// needs certificates of trusted authorities; give --tls-ca";
            return Err(UsageError(missing.to_owned()));
        }
        match options.iter().find(|(_, is_given)| *is_given && !is_tls) {
            Some((option, _)) => Err(UsageError(format!(
                "{option}: the agent's endpoint has no TLS that uses it"
            ))),
            None => Ok(()),
        }
    }

    fn bootstrap(&self) -> Result<String, UsageError> {
        let remarks: String = self
            .body
            .remarks()
            .iter()
            .map(|line| format!("# {line}\n"))
            .collect();
        Ok(format!(
            "{HEAD}{remarks}{}{}{}{}{}",
            self.listener(),
            self.filter(),
            self.agent_cluster()?,
            self.agent_tls()?,
            self.upstream_cluster(),
        ))
    }

    fn listener(&self) -> String {
        let hops = match self.trusted_hops {
            0 => String::new(),
            hops => format!("\n          xff_num_trusted_hops: {hops}"),
        };
        let upgrades = match self.body {
            BodyMode::Buffered => "",
            _ => "\n          upgrade_configs: [{upgrade_type: websocket}]",
        };
        format!(
            r#"static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          # The client's address is that of its connection, and is appended to x-forwarded-for.
          use_remote_address: true{hops}
          # The agent may change the header `server`.
          server_header_transformation: PASS_THROUGH{upgrades}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: upstream}}
"#,
            socket_address(&self.listen)
        )
    }

    fn filter(&self) -> String {
        let (mode, trailers) = (self.body.mode(), self.body.trailers());
        // With full duplex Envoy ignores it.
        let allow_override = self.body != BodyMode::Duplex;
        let rules = if self.may_set_host {
            "mutation_rules: {allow_all_routing: true, disallow_is_error: true}"
        } else {
            "mutation_rules: {disallow_is_error: true}"
        };
        format!(
            r#"          http_filters:
          - name: envoy.filters.http.ext_proc
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              grpc_service: {{envoy_grpc: {{cluster_name: agent}}}}
              # A request that the agent did not judge gets status 500, and 504 if it was slow.
              failure_mode_allow: false
              message_timeout: 1s
              # Time that the agent may ask for.
              max_message_timeout: 5s
              # The agent switches off what it does not look at.
              allow_mode_override: {allow_override}
              processing_mode:
                request_header_mode: SEND
                response_header_mode: SEND
                request_body_mode: {mode}
                response_body_mode: {mode}
                request_trailer_mode: {trailers}
                response_trailer_mode: {trailers}
              # A header that may not be changed fails the request.
              {rules}
              request_attributes:
              - source.address
              - source.port
              - request.id
              - request.protocol
              - request.time
              - connection.requested_server_name
              - connection.tls_version
              - xds.route_name
              - xds.cluster_name
              response_attributes: [upstream.address, upstream.request_attempt_count]
              # Reasons of decisions, for access logs: %DYNAMIC_METADATA(tollgate)%.
              metadata_options: {{receiving_namespaces: {{untyped: [tollgate, tollgate.route]}}}}
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#
        )
    }

    fn agent_cluster(&self) -> Result<String, UsageError> {
        let (kind, address) = match &self.agent {
            EnvoyEndpoint::Tcp(host, port) | EnvoyEndpoint::Tls(host, port) => {
                let address = Address::new(host, *port).map_err(UsageError)?;
                let socket = format!("socket_address: {}", socket_address(&address));
                (discovery(&address), socket)
            }
            EnvoyEndpoint::Unix(path) => ("STATIC", format!("pipe: {{path: {}}}", quoted(path)?)),
            other => return Err(UsageError(format!("{other}: Envoy has no such endpoint"))),
        };
        Ok(format!(
            r#"  clusters:
  - name: agent
    type: {kind}
    connect_timeout: 1s
    load_assignment:
      cluster_name: agent
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{{address}}}}}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options:
            # An agent that hangs is given up, in --body duplex too, where no other limit holds.
            connection_keepalive: {{interval: 2s, timeout: 1s}}
    # Each request of a client is a request to the agent. Beyond the limits clients get status 500.
    circuit_breakers:
      thresholds:
      - {{max_connections: 1024, max_pending_requests: 65536, max_requests: 65536}}
"#
        ))
    }

    fn agent_tls(&self) -> Result<String, UsageError> {
        let EnvoyEndpoint::Tls(host, _) = &self.agent else {
            return Ok(String::new());
        };
        let Some(authority) = &self.tls_ca else {
            return Ok(String::new());
        };
        let name = self.tls_server_name.as_deref().unwrap_or(host);
        let kind = match name.parse::<std::net::IpAddr>() {
            Ok(_) => "IP_ADDRESS",
            Err(_) => "DNS",
        };
        let sni = match kind {
            "DNS" => format!("\n        sni: {}", Quoted(name)),
            _ => String::new(),
        };
        let identity = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => format!(
                "\n          tls_certificates:\n          - certificate_chain: {{filename: {}}}\n\
                 \x20           private_key: {{filename: {}}}",
                quoted(cert)?,
                quoted(key)?
            ),
            _ => String::new(),
        };
        Ok(format!(
            r#"    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext{sni}
        common_tls_context:
          tls_params: {{tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3}}{identity}
          validation_context:
            trusted_ca: {{filename: {}}}
            match_typed_subject_alt_names:
            - {{san_type: {kind}, matcher: {{exact: {}}}}}
"#,
            quoted(authority)?,
            Quoted(name)
        ))
    }

    fn upstream_cluster(&self) -> String {
        format!(
            r#"  - name: upstream
    type: {}
    connect_timeout: 1s
    load_assignment:
      cluster_name: upstream
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {}}}}}
"#,
            discovery(&self.upstream),
            socket_address(&self.upstream)
        )
    }
}

const HEAD: &str = "\
# Envoy asks an agent about each request, by ext_proc. Requests that it cannot ask about fail.
#
";

fn quoted(path: &Path) -> Result<String, UsageError> {
    let text = path
        .to_str()
        .ok_or_else(|| UsageError(format!("{}: the path is not UTF-8", path.display())))?;
    Ok(Quoted(text).to_string())
}

/// Text in double quotes, for YAML.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(formatter, "\\{character}")?,
                // YAML takes control characters in no other form.
                _ if character.is_control() => write!(formatter, "\\x{:02x}", character as u32)?,
                _ => formatter.write_char(character)?,
            }
        }
        formatter.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_texts_are_one_yaml_scalar() {
        let quoted = Quoted("a \"b\" \\ c\n\u{7f}\u{85}ü").to_string();
        assert_eq!(quoted, r#""a \"b\" \\ c\x0a\x7f\x85ü""#);
    }
}
