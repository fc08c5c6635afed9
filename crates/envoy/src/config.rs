//! Settings of a listener for Envoy.

use crate::fold::HostRule;
use crate::wire::BodyMode;
use std::time::Duration;
use tollgate::TlsServerConfig;

/// Settings of an [`EnvoyListener`](crate::EnvoyListener).
///
/// ```
/// use std::time::Duration;
/// use tollgate_envoy::EnvoyConfig;
///
/// let config = EnvoyConfig::default()
///     .trusted_hops(1)
///     .hold_timeout(Duration::from_secs(10));
/// ```
#[derive(Debug, Clone)]
pub struct EnvoyConfig {
    pub(crate) tls: Option<TlsServerConfig>,
    pub(crate) socket_mode: u32,
    pub(crate) trusted_hops: usize,
    pub(crate) host: HostRule,
    pub(crate) reroutes: bool,
    pub(crate) body_modes: Option<(BodyMode, BodyMode)>,
    pub(crate) allows_partial_bodies: bool,
    pub(crate) max_exchanges: usize,
    pub(crate) max_message: usize,
    pub(crate) max_held: usize,
    pub(crate) hold_timeout: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) extended_timeout: Duration,
}

impl Default for EnvoyConfig {
    fn default() -> Self {
        Self {
            tls: None,
            socket_mode: 0o600,
            trusted_hops: 0,
            host: HostRule::MayNotSet,
            reroutes: false,
            body_modes: None,
            allows_partial_bodies: false,
            max_exchanges: 16 * 1024,
            max_message: 16 * 1024 * 1024,
            max_held: 4 * 1024 * 1024,
            hold_timeout: Duration::from_secs(30),
            answer_timeout: Duration::from_secs(30),
            extended_timeout: Duration::from_secs(5),
        }
    }
}

/// Defines methods that set one thing and return the settings.
macro_rules! setters {
    ($($(#[doc = $doc:expr])+ $name:ident($this:ident $(, $argument:ident: $type:ty)?) => $set:expr;)+) => {
        $(
            $(#[doc = $doc])+
            #[must_use]
            pub fn $name(mut $this $(, $argument: $type)?) -> Self {
                $set;
                $this
            }
        )+
    };
}

impl EnvoyConfig {
    setters! {
        /// Sets the certificate for `envoys://` endpoints, and which certificates Envoy needs.
        tls(self, tls: TlsServerConfig) => self.tls = Some(tls);

        /// Sets the mode of socket files, 0600 by default: only processes of the same user may
        /// connect.
        socket_mode(self, mode: u32) => self.socket_mode = mode;

        /// Sets how many proxies in front of the agent are trusted to add to `x-forwarded-for`,
        /// Envoy included; 0 by default. It counts only if Envoy sends neither the attribute
        /// `source.address` nor `x-envoy-external-address`, which Envoy writes as the edge proxy
        /// (`use_remote_address`) and a client may write elsewhere.
        trusted_hops(self, hops: usize) => self.trusted_hops = hops;

        /// Lets the agent set `host`, by which Envoy chooses the route. Envoy's `mutation_rules`
        /// have to allow it (`allow_all_routing`). Otherwise such a change fails the request.
        may_set_host(self) => self.host = HostRule::MaySet;

        /// Lets Envoy choose the route again if the agent gives routing hints, which it gets as
        /// dynamic metadata `tollgate.route`.
        reroute_by_metadata(self) => self.reroutes = true;

        /// Sets the modes of request and response bodies for Envoy before 1.34, which does not say
        /// them. Later versions override it.
        body_modes(self, modes: (BodyMode, BodyMode)) => self.body_modes = Some(modes);

        /// Lets the agent judge the beginning of a body if Envoy does not show the rest, which then
        /// passes: with `BUFFERED_PARTIAL`, and with `allow_partial_message` of ext_authz. By
        /// default such a request or response fails with 413, unless the agent does not look at
        /// bodies.
        allow_partial_bodies(self) => self.allows_partial_bodies = true;

        /// Sets how many exchanges are served at once, 16,384 by default. Further ones are refused,
        /// and Envoy fails their requests.
        max_exchanges(self, exchanges: usize) => self.max_exchanges = exchanges.max(1);

        /// Sets the size limit of a message in bytes, 16 MiB by default, which has to hold the
        /// buffer of Envoy in the mode `BUFFERED`.
        max_message_size(self, bytes: usize) => self.max_message = bytes;

        /// Sets the limit of what is held of one body while the agent has not decided, in bytes; 4
        /// MiB by default. A larger body is answered with 413.
        max_held_body(self, bytes: usize) => self.max_held = bytes;

        /// Sets the limit of the time for which a body is held, 30 s by default. The client then
        /// gets 504.
        hold_timeout(self, timeout: Duration) => self.hold_timeout = timeout;

        /// Sets the time limit of each answer of the handler, 30 s by default. The client then gets
        /// 504.
        answer_timeout(self, timeout: Duration) => self.answer_timeout = timeout;

        /// Sets the time that Envoy is asked to wait for an answer that takes longer than 100 ms, 5
        /// s by default. Envoy ignores it if it is longer than its `max_message_timeout`.
        extended_timeout(self, timeout: Duration) => self.extended_timeout = timeout;
    }
}
