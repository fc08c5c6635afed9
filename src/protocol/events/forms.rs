//! The owned and the borrowed form of an event, from one table of its fields.

/// Defines the owned and the borrowed form of an event, and the conversions between them.
///
/// The table is itself a macro, since the codecs use it as well: it calls the macro that it is
/// given. A line has the documentation of a field, its serde attribute in the owned form, its name,
/// its type and its number in protobuf:
///
/// ```text
/// macro_rules! request_complete {
///     ($define:ident) => {
///         $define! {
///             /// The end of an HTTP request
///             #[derive(Copy)]
///             RequestComplete, RequestCompleteEvent {
///                 /// Id that joins all events of one HTTP request.
///                 correlation_id: str = 1,
///                 /// Number of upstreams that were tried.
///                 upstream_attempts: u32 = 1000 or 1,
///                 /// Error that the request ended with, if any.
///                 #[serde(default)]
///                 error: (Option<str>) = 8,
///             }
///         }
///     };
/// }
///
/// request_complete!(owned_and_borrowed);
/// ```
///
/// A field that only the borrowed form has may follow in `borrowed { … }`.
///
/// The types `str`, `(Option<str>)`, `[str]` and `{str: str}` differ between the forms, others are
/// those of both. The number may be followed by the value of an absent field in protobuf, if that
/// is not the default of its type. The order of the fields is that of the array form.
macro_rules! owned_and_borrowed {
    (
        #[doc = $what:expr]
        $(#[derive($($derive:ident),*)])?
        $borrowed:ident, $owned:ident {
            $(
                $(#[doc = $doc:expr])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $kind:tt $(= $number:literal $(or $absent:expr)?)?,
            )*
        }
        $(borrowed {
            $(#[doc = $more_doc:expr])*
            $(#[serde($($more_serde:tt)*)])?
            $more:ident: $more_kind:tt,
        })?
    ) => {
        #[doc = concat!($what, ", owned.")]
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub struct $owned {
            $(
                $(#[doc = $doc])*
                $(#[serde($($serde)*)])?
                pub $field: $crate::protocol::events::forms::owned_type!($kind),
            )*
        }

        #[doc = concat!($what, ", borrowed. The owned form is [`", stringify!($owned), "`].")]
        #[derive(Debug, Clone, PartialEq, Eq, $($($derive),*)?)]
        pub struct $borrowed<'a> {
            $(
                $(#[doc = $doc])*
                pub $field: $crate::protocol::events::forms::borrowed_type!('a $kind),
            )*
            $(
                $(#[doc = $more_doc])*
                pub $more: $more_kind,
            )?
        }

        impl $owned {
            /// Returns the borrowed form. Bodies are shared, not copied.
            pub fn borrowed(&self) -> $borrowed<'_> {
                $borrowed {
                    $($field: $crate::protocol::events::forms::borrow!($kind, self.$field),)*
                    $($more: $more_kind::default(),)?
                }
            }
        }

        impl $borrowed<'_> {
            /// Copies this to its owned form. Bodies are shared, not copied.
            pub fn to_event(&self) -> $owned {
                $owned {
                    $($field: $crate::protocol::events::forms::own!($kind, self.$field),)*
                }
            }
        }
    };
}

macro_rules! owned_type {
    (str) => { String };
    ((Option<str>)) => { Option<String> };
    ([str]) => { Vec<String> };
    ({str: str}) => { std::collections::HashMap<String, String> };
    ($kind:ty) => { $kind };
}

macro_rules! borrowed_type {
    ($lifetime:lifetime str) => { &$lifetime str };
    ($lifetime:lifetime (Option<str>)) => { Option<&$lifetime str> };
    ($lifetime:lifetime [str]) => { Vec<&$lifetime str> };
    ($lifetime:lifetime {str: str}) => { Vec<(&$lifetime str, &$lifetime str)> };
    ($lifetime:lifetime $kind:ty) => { $kind };
}

macro_rules! borrow {
    (str, $value:expr) => {
        &$value
    };
    ((Option<str>), $value:expr) => {
        $value.as_deref()
    };
    ([str], $value:expr) => {
        $value.iter().map(String::as_str).collect()
    };
    ({str: str}, $value:expr) => {
        $value
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect()
    };
    ($kind:ty, $value:expr) => {
        Clone::clone(&$value)
    };
}

macro_rules! own {
    (str, $value:expr) => {
        $value.to_owned()
    };
    ((Option<str>), $value:expr) => {
        $value.map(str::to_owned)
    };
    ([str], $value:expr) => {
        $value.iter().map(|&item| item.to_owned()).collect()
    };
    ({str: str}, $value:expr) => {
        $value
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    ($kind:ty, $value:expr) => {
        Clone::clone(&$value)
    };
}

pub(super) use {borrow, borrowed_type, own, owned_and_borrowed, owned_type};
