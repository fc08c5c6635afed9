//! Forms on the wire of enums without fields.

/// Implements the conversion of an enum to its form on the wire and back. A form after `|` is one
/// that older peers write.
///
/// ```text
/// wire_forms! {
///     WebSocketOpcode: as_str -> &'static str, from_wire(name: &str) {
///         Text = "text",
///         Binary = "binary",
///     }
/// }
/// ```
macro_rules! wire_forms {
    ($kind:ident: $to:ident -> $out:ty, $from:ident($form:ident: $in:ty) {
        $($variant:ident = $value:literal $(| $older:literal)?),* $(,)?
    }) => {
        impl $kind {
            #[doc = concat!("Returns the ", stringify!($form), " on the wire.")]
            pub const fn $to(self) -> $out {
                match self {
                    $(Self::$variant => $value,)*
                }
            }

            #[doc = concat!(
                "Returns what has this ", stringify!($form), " on the wire; `None` if it is unknown."
            )]
            pub fn $from($form: $in) -> Option<Self> {
                Some(match $form {
                    $($value $(| $older)? => Self::$variant,)*
                    _ => return None,
                })
            }
        }
    };
}

pub(super) use wire_forms;
