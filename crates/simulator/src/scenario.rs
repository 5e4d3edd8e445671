//! What a scenario is, and how a module lists its own as tests too.

use steadfast_policy::rules::Rules;

/// A scenario's outcome: what was not as the law says.
pub type Outcome = Result<(), String>;

/// A sentence of the law, and how to try it.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// The sentence.
    pub name: &'static str,
    /// Tries it under these rules.
    pub act: fn(Rules) -> Outcome,
}

/// Fails the scenario unless it holds.
macro_rules! ensure {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}
pub(crate) use ensure;

/// The scenarios of a module, and each as a test.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        /// The scenarios of this module.
        pub const ALL: &[crate::scenario::Scenario] = &[
            $(crate::scenario::Scenario { name: stringify!($name), act: $name },)*
        ];

        #[cfg(test)]
        mod tests {
            $(
                #[test]
                fn $name() -> Result<(), String> {
                    super::$name(steadfast_policy::rules::Rules::all())
                }
            )*
        }
    };
}
pub(crate) use scenarios;
