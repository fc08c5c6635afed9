//! `Debug` of types that show only some of what they have.

/// Implements `Debug` for a struct, with the given values in place of its fields.
///
/// ```text
/// debug_fields!(Agent, |self| id: self.id(), endpoint: self.0.endpoint);
/// ```
macro_rules! debug_fields {
    ($kind:ident $(<$parameter:ident>)?, |$this:ident| $($name:ident: $value:expr),* $(,)?) => {
        impl $(<$parameter>)? std::fmt::Debug for $kind $(<$parameter>)? {
            fn fmt(&$this, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($kind))
                    $(.field(stringify!($name), &$value))*
                    .finish_non_exhaustive()
            }
        }
    };
}

pub(crate) use debug_fields;
