//! Configurations, which are made by setters that can be chained.

/// Declares a configuration, with a setter for each field.
///
/// Public fields can be read. The structs are `#[non_exhaustive]`, so that fields can be added. A
/// field that depends on a feature is not public, so that a dependency which enables the feature
/// does not change the struct that others see.
macro_rules! configuration {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $(#[cfg($($condition:tt)*)])?
                $visibility:vis $field:ident: $type:ty,
            )*
        }
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[cfg($($condition)*)])?
                $visibility $field: $type,
            )*
        }

        impl $name {
            $(
                #[doc = concat!("Sets `", stringify!($field), "`.")]
                ///
                $(#[doc = $doc])*
                $(#[cfg($($condition)*)])?
                #[must_use]
                pub fn $field(mut self, value: $type) -> Self {
                    self.$field = value;
                    self
                }
            )*
        }
    };
}

/// Declares setters that take `self` and return it, in an `impl`.
///
/// ```text
/// setters! {
///     /// Sets the severity.
///     with_severity(self, severity: Severity) => self.severity = severity;
/// }
/// ```
macro_rules! setters {
    ($(
        $(#[$attribute:meta])*
        $name:ident($this:ident $(, $argument:ident: $type:ty)*) => $set:expr;
    )+) => {$(
        $(#[$attribute])*
        #[must_use]
        pub fn $name(mut $this $(, $argument: $type)*) -> Self {
            $set;
            $this
        }
    )+};
}

pub(crate) use {configuration, setters};
