//! Enums whose variants all name an agent.

/// A value about one agent.
pub(crate) trait AboutAgent {
    /// Returns the id of the agent.
    fn agent(&self) -> &str;
}

/// Declares an enum whose variants have the agent's id in a field with the name after `of`, before
/// those that are listed.
macro_rules! about_agents {
    (
        $(#[$attribute:meta])*
        $name:ident of $agent_id:ident:
        $($(#[$about:meta])* $variant:ident { $($(#[$doc:meta])* $field:ident: $type:ty,)* },)*
    ) => {
        $(#[$attribute])*
        pub enum $name {
            $(
                $(#[$about])*
                $variant {
                    /// Id of the agent.
                    $agent_id: std::sync::Arc<str>,
                    $($(#[$doc])* $field: $type,)*
                },
            )*
        }

        impl $crate::about_agents::AboutAgent for $name {
            fn agent(&self) -> &str {
                match self {
                    $(Self::$variant { $agent_id, .. } => $agent_id,)*
                }
            }
        }
    };
}

pub(crate) use about_agents;
