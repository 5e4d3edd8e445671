//! Names that the policy mints, so that nothing in it depends on a pid or a path.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A pool; numbered by the driver, never reused.
    PoolId(u32)
);
id!(
    /// One process life; minted before the process exists, never used twice.
    WorkerId(u64)
);
id!(
    /// A numbered seat in a pool, from 1; outlives its workers.
    SlotId(u32)
);
id!(
    /// One loading of code and configuration in a pool, from 1; never reused.
    GenerationId(u32)
);
id!(
    /// One life of a zygote; never used twice.
    ZygoteId(u64)
);
id!(
    /// A request as the front names it (a hash of method, Host and URI); the front keeps the text.
    RequestKey(u64)
);
