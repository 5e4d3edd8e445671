//! Sentences of the law, each as a short script in and the orders expected out; they serve as tests and kill mutants.

pub mod breaker;
pub mod generations;
pub mod leaving;
pub mod repairs;
pub mod requests;
pub mod sizing;

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
        pub const ALL: &[crate::scenarios::Scenario] = &[
            $(crate::scenarios::Scenario { name: stringify!($name), act: $name },)*
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

/// All of them.
pub fn all() -> impl Iterator<Item = Scenario> {
    [leaving::ALL, repairs::ALL, breaker::ALL, generations::ALL, sizing::ALL, requests::ALL]
        .into_iter()
        .flatten()
        .copied()
}
